using Unity.MLAgents;
using Unity.MLAgents.SideChannels;
using UnityEngine;

namespace MentorGym
{
    /// <summary>
    /// Registers the metadata channel before anything else, and steps once a frame: objects are placed, not thrown, so no
    /// physics has to run between two steps. One in the scene.
    /// </summary>
    [DefaultExecutionOrder(-100)]
    public class SpatialAcademy : MonoBehaviour
    {
        public static SpatialChannel Channel { get; private set; }

        void Awake()
        {
            QualitySettings.vSyncCount = 0;
            Application.targetFrameRate = -1;
            Application.runInBackground = true;
            Channel = new SpatialChannel();
            SideChannelManager.RegisterSideChannel(Channel);
            // Here Unity waits until Python has connected and called reset.
            Academy.Instance.AutomaticSteppingEnabled = false;
        }

        void Update()
        {
            Academy.Instance.EnvironmentStep();
        }

        void OnDestroy()
        {
            SideChannelManager.UnregisterSideChannel(Channel);
        }
    }
}
