using System;
using System.Collections.Generic;
using Unity.MLAgents;
using Unity.MLAgents.Actuators;
using Unity.MLAgents.Sensors;
using UnityEngine;
using Random = System.Random;

namespace MentorGym
{
    /// <summary>
    /// Moves three objects about a room in turn: reward 1 for a move to a valid place, -1 for one that is undone. Python says
    /// when room, camera, objects and places are drawn anew, and that ends an episode. Leave Max Step at 0, and put no
    /// Decision Requester beside it. It sits on the root of an area that holds all rooms and all objects as children.
    /// </summary>
    public class SpatialAgent : Agent
    {
        const int k_Active = 3;
        const int k_Tries = 40;
        const float k_LeastMove = 0.02f;
        const float k_Reach = 0.4f;
        const float k_Margin = 0.08f;
        const float k_Lift = 0.002f;

        [Tooltip("In the order of mentorgym's rooms.ROOMS; at most 8.")]
        public SpatialRoom[] rooms;

        [Tooltip("In the order of mentorgym's objects.NAMES.")]
        public SpatialObject[] objects;

        [Tooltip("The camera of the Camera Sensor.")]
        public Camera eye;

        [Tooltip("Of the Camera Sensor: pixels.")]
        public int side = 224;

        readonly int[] m_Chosen = new int[k_Active];
        readonly int[] m_Surfaces = new int[k_Active];
        readonly SpatialChannel m_Alone = new SpatialChannel();
        Random m_Random = new Random(0);
        int m_Row;
        int m_Room;
        int m_Turn;
        int m_Moved = -1;
        string m_Reason = "";
        bool m_Ending;
        bool m_Asked;

        SpatialChannel Channel
        {
            get { return SpatialAcademy.Channel ?? m_Alone; }
        }

        SpatialRoom Room
        {
            get { return rooms[m_Room]; }
        }

        public override void Initialize()
        {
            m_Row = Channel.NextRow();
            foreach (var thing in objects)
            {
                thing.Find();
            }
            Academy.Instance.AgentPreStep += Decide;
        }

        void OnDestroy()
        {
            if (Academy.IsInitialized)
            {
                Academy.Instance.AgentPreStep -= Decide;
            }
        }

        void Decide(int step)
        {
            RequestDecision();
        }

        public override void OnEpisodeBegin()
        {
            m_Asked = false;
            // A reset by Python calls every agent, and means those that it names.
            if (m_Ending || !Channel.Connected || Channel.IsToBeDrawn(m_Row))
            {
                var seed = Channel.Seed(m_Row);
                if (seed >= 0)
                {
                    m_Random = new Random((int)(seed ^ (seed >> 31)) & int.MaxValue);
                }
                if (!m_Ending)
                {
                    m_Moved = -1;
                    m_Reason = "";
                }
                Draw();
            }
            m_Ending = false;
        }

        public override void OnActionReceived(ActionBuffers actions)
        {
            // After a reset by Python, ML-Agents has the agents act once more, though nobody has said how.
            if (!m_Asked)
            {
                return;
            }
            m_Asked = false;
            // Python's y is Unity's z.
            var action = new Vector3(
                Mathf.Clamp(actions.ContinuousActions[0], -1f, 1f),
                Mathf.Clamp(actions.ContinuousActions[2], -1f, 1f),
                Mathf.Clamp(actions.ContinuousActions[1], -1f, 1f));
            m_Moved = m_Turn;
            m_Reason = Move(m_Turn, Place(m_Turn) + action * Channel.Command.move_scale);
            m_Turn = (m_Turn + 1) % k_Active;
            SetReward(m_Reason == "" ? 1f : -1f);
            if (Channel.IsToBeDrawn(m_Row))
            {
                m_Ending = true;
                EpisodeInterrupted();
            }
        }

        public override void CollectObservations(VectorSensor sensor)
        {
            m_Asked = !m_Ending;
            var surface = Room.surfaces[m_Surfaces[m_Turn]].bounds;
            var top = Top(m_Surfaces[m_Turn]);
            var free = Room.size.y - top.y;
            if (Physics.Raycast(World(top) + Vector3.up * k_Lift, Vector3.up, out var above, free))
            {
                free = above.distance;
            }
            sensor.AddObservation((float)m_Chosen[m_Turn]);
            sensor.AddObservation((float)m_Room);
            sensor.AddObservation(new Vector3(surface.size.x, surface.size.z, free));
            sensor.AddObservation(Turned(top));
            for (var place = 0; place < k_Active; place++)
            {
                var which = (m_Turn + place) % k_Active;
                sensor.AddObservation(Turned(Place(which)));
                sensor.AddObservation(new Vector3(0f, 0f, Yaw(which)));
            }
            var seen = Seen();
            sensor.AddObservation(new Vector3(seen.position[0], seen.position[1], seen.position[2]));
            sensor.AddObservation(new Vector3(0f, seen.pitch, seen.yaw));
            Tell(seen);
        }

        public override void Heuristic(in ActionBuffers actionsOut)
        {
            var actions = actionsOut.ContinuousActions;
            for (var axis = 0; axis < 3; axis++)
            {
                actions[axis] = UnityEngine.Random.Range(-1f, 1f);
            }
        }

        // Each observation has its record, in the same order.
        void Tell(SpatialCamera seen)
        {
            var record = new SpatialRecord
            {
                row = m_Row,
                done = m_Ending,
                room = Room.name,
                camera = seen,
                objects = new string[k_Active],
                positions = new float[3 * k_Active],
                yaws = new float[k_Active],
                moved = m_Moved,
                valid = m_Reason == "",
                reason = m_Reason,
            };
            for (var which = 0; which < k_Active; which++)
            {
                var place = Turned(Place(which));
                record.objects[which] = Thing(which).label;
                for (var axis = 0; axis < 3; axis++)
                {
                    record.positions[3 * which + axis] = place[axis];
                }
                record.yaws[which] = Yaw(which);
            }
            SpatialAcademy.Channel?.Tell(record);
        }

        void Draw()
        {
            var command = Channel.Command;
            var fitting = new List<int>();
            for (var index = 0; index < rooms.Length; index++)
            {
                if (rooms[index].test == (command.split == "test"))
                {
                    fitting.Add(index);
                }
            }
            for (var attempt = 0; attempt < k_Tries; attempt++)
            {
                m_Room = fitting[m_Random.Next(fitting.Count)];
                m_Turn = 0;
                for (var index = 0; index < rooms.Length; index++)
                {
                    rooms[index].gameObject.SetActive(index == m_Room);
                }
                foreach (var thing in objects)
                {
                    thing.gameObject.SetActive(false);
                }
                var cameras = command.camera == "paper" ? Room.paper : Room.close;
                var chosen = cameras[m_Random.Next(cameras.Length)];
                eye.transform.SetPositionAndRotation(chosen.transform.position, chosen.transform.rotation);
                eye.fieldOfView = chosen.fieldOfView;
                Physics.SyncTransforms();
                if (Fill())
                {
                    return;
                }
            }
            throw new InvalidOperationException($"{Room.name}: the cameras see no room for {k_Active} objects");
        }

        // Puts three objects where they are seen; false where that has failed too often.
        bool Fill()
        {
            var order = new List<int>();
            for (var index = 0; index < objects.Length; index++)
            {
                order.Insert(m_Random.Next(index + 1), index);
            }
            for (var which = 0; which < k_Active; which++)
            {
                m_Chosen[which] = order[which];
                var thing = Thing(which);
                thing.gameObject.SetActive(true);
                thing.transform.rotation = Quaternion.Euler(0f, 360f * (float)m_Random.NextDouble(), 0f);
                var tries = 0;
                while (true)
                {
                    if (tries++ == k_Tries)
                    {
                        return false;
                    }
                    var surface = m_Random.Next(Room.surfaces.Length);
                    var extent = Room.surfaces[surface].bounds.size;
                    var target = Top(surface) + new Vector3(
                        extent.x * ((float)m_Random.NextDouble() - 0.5f), 0f, extent.z * ((float)m_Random.NextDouble() - 0.5f));
                    if (Fits(which, surface, target))
                    {
                        thing.transform.position = World(target);
                        if (Obstacle(which, true) == "")
                        {
                            m_Surfaces[which] = surface;
                            break;
                        }
                    }
                }
            }
            return true;
        }

        // Moves an object to a place in the room's frame and lets it settle; says why not, where it cannot be and was not.
        string Move(int which, Vector3 target)
        {
            var start = Place(which);
            var surface = -1;
            var nearest = k_Reach;
            for (var index = 0; index < Room.surfaces.Length; index++)
            {
                var gap = Mathf.Abs(target.y - Top(index).y);
                if (gap <= nearest && Fits(which, index, target))
                {
                    nearest = gap;
                    surface = index;
                }
            }
            if (surface >= 0)
            {
                target.y = Top(surface).y;
            }
            if (Vector3.Distance(target, start) < k_LeastMove)
            {
                return "still";
            }
            if (surface < 0)
            {
                return "no surface";
            }
            Thing(which).transform.position = World(target);
            var reason = Obstacle(which, Channel.Command.in_view);
            if (reason == "")
            {
                m_Surfaces[which] = surface;
            }
            else
            {
                Thing(which).transform.position = World(start);
            }
            return reason;
        }

        // Whether the whole base of an object at a place lies above a surface.
        bool Fits(int which, int surface, Vector3 place)
        {
            var top = Top(surface);
            var half = Room.surfaces[surface].bounds.size / 2f;
            var radius = Thing(which).baseRadius;
            return Mathf.Abs(place.x - top.x) <= half.x - radius && Mathf.Abs(place.z - top.z) <= half.z - radius;
        }

        // What keeps an object from standing where it is.
        string Obstacle(int which, bool inView)
        {
            var thing = Thing(which);
            Physics.SyncTransforms();
            var hits = "";
            foreach (var own in thing.Colliders)
            {
                var low = own.transform.position + Vector3.up * k_Lift;
                var bounds = own.bounds;
                var middle = bounds.center - Room.transform.position;
                if (Mathf.Abs(middle.x) + bounds.extents.x > Room.size.x / 2f
                    || Mathf.Abs(middle.z) + bounds.extents.z > Room.size.z / 2f)
                {
                    return "outside";
                }
                foreach (var other in Physics.OverlapBox(bounds.center, bounds.extents))
                {
                    var owner = other.GetComponentInParent<SpatialObject>();
                    if (owner == thing || other.isTrigger
                        || !Physics.ComputePenetration(
                            own, low, own.transform.rotation,
                            other, other.transform.position, other.transform.rotation, out _, out _))
                    {
                        continue;
                    }
                    if (owner == null)
                    {
                        return "furniture";
                    }
                    hits = "object";
                }
            }
            if (hits == "" && inView && !IsSeen(thing))
            {
                return "out of view";
            }
            return hits;
        }

        bool IsSeen(SpatialObject thing)
        {
            var point = eye.WorldToViewportPoint(thing.Middle);
            if (point.z < 0.1f || Mathf.Min(point.x, point.y) < k_Margin || Mathf.Max(point.x, point.y) > 1f - k_Margin)
            {
                return false;
            }
            var sight = thing.Middle - eye.transform.position;
            foreach (var hit in Physics.RaycastAll(eye.transform.position, sight.normalized, sight.magnitude))
            {
                if (hit.collider.GetComponentInParent<SpatialObject>() == null)
                {
                    return false;
                }
            }
            return true;
        }

        SpatialObject Thing(int which)
        {
            return objects[m_Chosen[which]];
        }

        // In the room's frame, Unity's axes.
        Vector3 Place(int which)
        {
            return Thing(which).transform.position - Room.transform.position;
        }

        Vector3 World(Vector3 place)
        {
            return place + Room.transform.position;
        }

        Vector3 Top(int surface)
        {
            var bounds = Room.surfaces[surface].bounds;
            return new Vector3(bounds.center.x, bounds.max.y, bounds.center.z) - Room.transform.position;
        }

        // Unity's y is up and its frame left-handed; in Python's z is up and the frame right-handed.
        static Vector3 Turned(Vector3 place)
        {
            return new Vector3(place.x, place.z, place.y);
        }

        static float Angle(float degrees)
        {
            return Mathf.DeltaAngle(0f, degrees) * Mathf.Deg2Rad;
        }

        // Of the object's x, which Unity turns clockwise as seen from above.
        float Yaw(int which)
        {
            return Angle(-Thing(which).transform.eulerAngles.y);
        }

        // Of the camera's z, which at no rotation is Python's y.
        SpatialCamera Seen()
        {
            var place = Turned(eye.transform.position - Room.transform.position);
            var angles = eye.transform.eulerAngles;
            return new SpatialCamera
            {
                position = new[] { place.x, place.y, place.z },
                yaw = Angle(90f - angles.y),
                pitch = Angle(-angles.x),
                // The picture is square, so the vertical angle is the horizontal one.
                field = eye.fieldOfView * Mathf.Deg2Rad,
                height = side,
                width = side,
            };
        }
    }
}
