using System;
using System.Text;
using Unity.MLAgents.SideChannels;
using UnityEngine;

namespace MentorGym
{
    /// <summary>What Python says. Fields that a message leaves out keep their values.</summary>
    [Serializable]
    public class SpatialCommand
    {
        public int[] rows = Array.Empty<int>();
        public long[] seeds = Array.Empty<long>();
        public string split = "train";
        public string camera = "close";
        public float move_scale = 0.28f;
        public bool in_view = true;
        public bool pictures = true;
    }

    [Serializable]
    public class SpatialCamera
    {
        public float[] position;
        public float yaw;
        public float pitch;
        public float field;
        public int height;
        public int width;
    }

    /// <summary>What Python is told of one observation: metres and radians, x and y level, z up, yaw from x towards y.</summary>
    [Serializable]
    public class SpatialRecord
    {
        public int row;
        public bool done;
        public string room;
        public SpatialCamera camera;
        public string[] objects;
        public float[] positions;
        public float[] yaws;
        public int moved;
        public bool valid;
        public string reason;
    }

    /// <summary>Metadata beside observations, as JSON both ways; mentorgym's `envs/spatial/unity/channel.py` says what it means.</summary>
    public class SpatialChannel : SideChannel
    {
        public readonly SpatialCommand Command = new SpatialCommand();

        /// <summary>Whether Python has spoken.</summary>
        public bool Connected { get; private set; }

        int m_Rows;

        public SpatialChannel()
        {
            ChannelId = new Guid("5d0f37a6-63c1-4d3e-a2b5-1e7f4c9d8a10");
        }

        /// <summary>A number for an agent, in the order of their initialization.</summary>
        public int NextRow()
        {
            return m_Rows++;
        }

        /// <summary>Whether the last message wants this row to be drawn anew.</summary>
        public bool IsToBeDrawn(int row)
        {
            return Array.IndexOf(Command.rows, row) >= 0;
        }

        /// <summary>What the row's draws start from; -1 to draw on.</summary>
        public long Seed(int row)
        {
            var place = Array.IndexOf(Command.rows, row);
            return place >= 0 && place < Command.seeds.Length ? Command.seeds[place] : -1;
        }

        public void Tell(SpatialRecord record)
        {
            using (var message = new OutgoingMessage())
            {
                message.SetRawBytes(Encoding.UTF8.GetBytes(JsonUtility.ToJson(record)));
                QueueMessageToSend(message);
            }
        }

        protected override void OnMessageReceived(IncomingMessage message)
        {
            Connected = true;
            Command.rows = Array.Empty<int>();
            Command.seeds = Array.Empty<long>();
            JsonUtility.FromJsonOverwrite(Encoding.UTF8.GetString(message.GetRawBytes()), Command);
        }
    }
}
