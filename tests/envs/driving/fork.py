"""A hand-written map with two lanes each way: at its fork the left lane leads to one road, the right to another."""

WIDTH = '<width sOffset="0" a="3.5" b="0" c="0" d="0"/>'
LANE = '<lane id="{number}" type="driving"><link>{link}</link>{width}{mark}</lane>'
MARK = '<roadMark sOffset="0" type="{kind}" weight="standard" color="white" width="0.12" laneChange="{change}"/>'


def _road(number: int, x: float, y: float, length: float, junction: int, lanes: dict, links: str, change: str) -> str:
    """A straight eastward road; `lanes` holds the links of each lane by its id, `change` the paint between lanes."""
    sides = {}
    for side, wanted in (("left", sorted((n for n in lanes if n > 0), reverse=True)), ("right", [-1, -2])):
        drawn = []
        for lane in wanted:
            if lane in lanes:
                mark = MARK.format(kind="broken", change=change) if abs(lane) == 1 and len(lanes) > 1 else ""
                drawn.append(LANE.format(number=lane, link=lanes[lane], width=WIDTH, mark=mark))
        sides[side] = f"<{side}>{''.join(drawn)}</{side}>" if drawn else ""
    return f"""<road name="" length="{length}" id="{number}" junction="{junction}"><link>{links}</link>
<planView><geometry s="0" x="{x}" y="{y}" hdg="0" length="{length}"><line/></geometry></planView>
<lanes><laneSection s="0">{sides["left"]}<center><lane id="0" type="none"/></center>{sides["right"]}</laneSection>
</lanes></road>"""


def fork_xml(change: str = "both", length: float = 300.0) -> str:
    """OpenDRIVE text: road 0 with lanes -2, -1 (east) and 1, 2 (west), `length` metres long; its lane -1 leads over
    road 10 to road 1, its lane -2 over road 11 to road 2. `change` is the paint's permission between lanes."""
    end = length + 20.0
    over = '<predecessor elementType="road" elementId="{}" contactPoint="end"/>'
    to = '<successor elementType="road" elementId="{}" contactPoint="start"/>'
    into = '<successor elementType="junction" elementId="100"/>'
    roads = [_road(0, 0, 0, length, -1, dict.fromkeys((-2, -1, 1, 2), ""), into, change)]
    connections = []
    for k, lane in enumerate((-1, -2)):
        y = -3.5 * k
        links = f'<predecessor id="{lane}"/><successor id="-1"/>'
        roads.append(_road(10 + k, length, y, 20.0, 100, {-1: links}, over.format(0) + to.format(k + 1), "none"))
        after = '<predecessor elementType="junction" elementId="100"/>'
        roads.append(_road(k + 1, end, y, 150.0, -1, {-1: ""}, after, "none"))
        connections.append(
            f'<connection id="{k}" incomingRoad="0" connectingRoad="{10 + k}" contactPoint="start">'
            f'<laneLink from="{lane}" to="-1"/></connection>'
        )
    junction = f'<junction id="100" name="">{"".join(connections)}</junction>'
    return f'<OpenDRIVE><header revMajor="1" revMinor="4"/>{"".join(roads)}{junction}</OpenDRIVE>'
