using UnityEngine;

namespace MentorGym
{
    /// <summary>The root of a room's furniture. Its origin is the middle of the floor; walls run along its x and z.</summary>
    public class SpatialRoom : MonoBehaviour
    {
        [Tooltip("Length along x, height, width along z: metres.")]
        public Vector3 size = new Vector3(5f, 2.6f, 5f);

        [Tooltip("Whether it belongs to the split \"test\"; else to \"train\" and \"val\".")]
        public bool test;

        [Tooltip("Colliders whose upper sides, level rectangles along x and z, things may stand on: floor and rugs too.")]
        public Collider[] surfaces;

        [Tooltip("Disabled cameras at 1.2 to 2 m from a surface: pose and field of view are taken from them.")]
        public Camera[] close;

        [Tooltip("Disabled cameras that see the room.")]
        public Camera[] paper;
    }
}
