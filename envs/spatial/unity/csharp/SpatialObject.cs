using UnityEngine;

namespace MentorGym
{
    /// <summary>One of the nine objects. Its origin is the middle of its base; it faces along its x at no rotation.</summary>
    public class SpatialObject : MonoBehaviour
    {
        [Tooltip("As in mentorgym's objects.NAMES, e.g. \"green cup\".")]
        public string label;

        [Tooltip("Radius of the base: metres.")]
        public float baseRadius = 0.05f;

        [Tooltip("From the base to the top: metres.")]
        public float height = 0.2f;

        /// <summary>Its colliders: primitives, or convex meshes.</summary>
        public Collider[] Colliders { get; private set; }

        public Vector3 Middle
        {
            get { return transform.position + Vector3.up * (height / 2f); }
        }

        void Awake()
        {
            Find();
        }

        /// <summary>Looks for the colliders; also of an object that has never been active.</summary>
        public void Find()
        {
            Colliders = GetComponentsInChildren<Collider>(true);
        }
    }
}
