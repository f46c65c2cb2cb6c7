"""Draw a network's data flow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from attn_mm.describe.dataflow import Block, DataFlow, Flows, Followed, Head, Level, Part, Pyramid, Step
from attn_mm.describe.module_tree import outputs_text, size, thousands
from attn_mm.describe.svg import Box, Drawing, Point, box_size, stacked
from attn_mm.utils.tables import counted

# Between boxes in a row; between rows.
GAP, ROW = 34, 28
# Boxes of the overview in a row.
WRAP = 8
# Names of equal blocks that are written out.
NAMES = 4
TIMES = "\u00d7"


def draw(title: str, flow: DataFlow) -> str:
    """Draw a network as SVG."""
    params, macs = (thousands(sum(getattr(part, name) for part in flow.parts)) for name in ("params", "conv"))
    whole = f"{params} parameters and {macs} MACs in all."
    return stacked([("Overview", whole, _overview(flow)), *_panels(flow)]).document(title)


def _panels(flow: DataFlow) -> Iterator[tuple[str, str, Drawing]]:
    for flows in flow.flows:
        title = f"{flows.flows} flows over the stages of {flows.name or 'the network'}"
        yield title, _flows_text(flows), _draw_flows(flows, flow.parts)
    for block in flow.blocks:
        title = f"{block.type} with {_block_title(block)}"
        yield title, f"{counted(len(block.where), 'block')}: {_names(block.where)}", _draw_block(block)
    for followed in flow.followed:
        title = (
            f"{followed.type} with attention behind it" if followed.type else "Attention behind the outputs"
        )
        yield (
            title,
            f"{counted(len(followed.where), 'place')}: {_names(followed.where)}",
            _draw_followed(followed),
        )
    for pyramid in flow.pyramids:
        text = "Top-down sums go from the coarse levels, below, to the fine ones."
        yield f"Attention FPN: {pyramid.name}", text, _draw_pyramid(pyramid)
    for head in flow.heads:
        yield f"{head.type}: attention in the {head.name}", "", _draw_head(head)
    if flow.convs:
        drawing = Drawing()
        _attending_conv(drawing, GAP, 0, Step("convolution", "", True, factor=flow.factor))
        yield "Convolutions whose weights attend", f"{len(flow.convs)}: {_names(flow.convs)}", drawing


def _names(names: Sequence[str]) -> str:
    if len(names) <= NAMES:
        return ", ".join(names)
    return ", ".join([*names[: NAMES - 1], f"... {names[-1]}"])


def _short(name: str) -> str:
    return name.removeprefix("backbone.")


def _overview(flow: DataFlow) -> Drawing:
    drawing = Drawing()
    boxes = [["input", size(flow.input)]]
    boxes += [_part_lines(part) for part in flow.parts if not part.beside]
    rows = [boxes[i : i + WRAP] for i in range(0, len(boxes), WRAP)]
    y, before = 0.0, None
    for row in rows:
        x = 0.0
        for index, lines in enumerate(row):
            box = drawing.box(x, y, lines, "plain")
            if before is not None and index:
                drawing.line([before.right, (box.x, before.right[1])], "flow")
            elif before is not None:
                middle = y - ROW / 2
                end = before.right
                corner = end[0] + GAP / 2
                points = [end, (corner, end[1]), (corner, middle), (box.top[0], middle), box.top]
                drawing.line(points, "flow")
            before = box
            x += box.width + GAP
        y += max(box_size(lines)[1] for lines in row) + ROW
    x = 0.0
    for part in flow.parts:
        if part.beside:
            x += drawing.box(x, y, _part_lines(part), "attn").width + GAP
    return drawing


def _part_lines(part: Part) -> list[str]:
    numbers = []
    if part.params or part.conv:
        numbers = [f"{thousands(part.params)} parameters", f"{thousands(part.conv)} MACs"]
    kind = [part.type] if part.type and part.type != "Sequential" else []
    outputs = [outputs_text(part.outputs)] if part.outputs else []
    return [_short(part.name), *kind, *outputs, *numbers]


def _flows_text(flows: Flows) -> str:
    text = "Each flow runs on half the size of the next one"
    if flows.masks:
        text += f"; {TIMES} multiplies by (mask + {flows.eta}), the mask being made of the flow above"
    return f"{text}."


def _draw_flows(flows: Flows, parts: Sequence[Part]) -> Drawing:
    drawing = Drawing()
    lines = {
        key: [flows.stages[key[0]], outputs_text(call.shapes), f"{thousands(call.conv)} MACs"]
        for key, call in flows.cells.items()
    }
    width = max((box_size(text)[0] for text in lines.values()), default=0)
    height = max((box_size(text)[1] for text in lines.values()), default=0)
    pill = max((box_size([text])[0] for text in flows.masks.values()), default=0)
    gap = max(2 * GAP, pill + 16)
    left = 70.0
    row = height + (78 if flows.masks else ROW)
    junctions: dict[tuple[int, int], Point] = {}
    ends: dict[int, Point] = {}
    for flow in range(1, flows.flows + 1):
        y = (flow - 1) * row
        drawing.text(0, y + height / 2 + 4, f"flow {flow}", 13, "head")
        before = (52.0, y + height / 2)
        for stage in range(len(flows.stages)):
            if (stage, flow) not in lines:
                continue
            box = drawing.box(left + stage * (width + gap), y, lines[stage, flow], "conv", width)
            drawing.line([before, box.left], "flow")
            before = box.right
            if (stage, flow) in flows.masks:
                at = box.right[0] + gap / 2
                product = drawing.sign(at, box.right[1], TIMES, "attn")
                drawing.line([before, product.left], "flow")
                before = product.right
                junctions[stage, flow] = at, box.right[1]
            elif (stage, flow + 1) in flows.masks:
                junctions[stage, flow] = box.right[0] + gap / 2, box.right[1]
                drawing.line([before, junctions[stage, flow]], "flow", tip=False)
        ends[flow] = before
    for (stage, flow), text in flows.masks.items():
        (x, y1), (_, y2) = junctions[stage, flow - 1], junctions[stage, flow]
        start = y1 + (10 if (stage, flow - 1) in flows.masks else 0)
        middle = (start + y2 - 10) / 2
        own, high = box_size([text])
        box = drawing.box(x - own / 2, middle - high / 2, [text], "attn")
        drawing.line([(x, start), box.top], "mask")
        drawing.line([box.bottom, (x, y2 - 10)], "mask")
    _draw_ends(drawing, flows, ends, junctions, parts, left, width, gap, row, height)
    return drawing


def _draw_ends(
    drawing: Drawing,
    flows: Flows,
    ends: dict,
    junctions: dict,
    parts: Sequence[Part],
    left: float,
    width: float,
    gap: float,
    row: float,
    height: float,
) -> None:
    """Draw where the output maps of the flows go."""
    after = _part_after(flows.name, parts)
    edge = left + len(flows.stages) * (width + gap)
    if flows.given is None:
        middle = (flows.flows - 1) * row / 2 + height / 2
        target = drawing.box(edge + 10, middle - 12, [after or "all flows' maps"])
        for end in ends.values():
            drawing.line([end, (edge - 14, end[1]), (edge - 14, target.left[1]), target.left], "flow")
        return
    flow, stages = flows.given
    y = (flow - 1) * row + height / 2
    bus = y + height / 2 + 22
    last = max(stages)
    if stages != [len(flows.stages) - 1]:
        for stage in stages:
            x, _ = junctions.get((stage, flow), (left + stage * (width + gap) + width + gap / 2, y))
            start = y + 10 if (stage, flow) in junctions else y
            if stage == last and (stage, flow) not in junctions:
                drawing.line([ends[flow], (x, y)], "flow", tip=False)
            drawing.line([(x, start), (x, bus)], "flow", tip=False)
        first = junctions.get((min(stages), flow), (left + min(stages) * (width + gap) + width + gap / 2, y))[
            0
        ]
        target = drawing.box(edge + 10, bus - 12, [after or "out"])
        drawing.line([(first, bus), (target.x, bus)], "flow")
        return
    target = drawing.box(edge - gap + GAP, y - 12, [after or "out"])
    drawing.line([ends[flow], target.left], "flow")


def _part_after(name: str, parts: Sequence[Part]) -> str:
    """Name the part that follows the owner of the flows in the overview."""
    owner = name.partition(".")[0]
    names = [part.name for part in parts]
    inside = [i for i, n in enumerate(names) if n == owner or n.startswith(f"{owner}.")] if owner else []
    following = parts[inside[-1] + 1 :] if inside else []
    if owner != name and inside:
        return "the rest of the head"
    return f"{following[0].name}: {following[0].type}" if following else ""


def _block_title(block: Block) -> str:
    what = []
    if block.td:
        what.append(f"top-down feedback ({block.td['mode']}, {block.td['steps']} steps)")
    what += dict.fromkeys("AW-convolution" for step in block.steps if step.weights_attend)
    what += dict.fromkeys("self-attention" for step in block.steps if "+" in step.kernel)
    what += dict.fromkeys(layer for step in block.steps for layer in step.behind)
    return ", ".join(what)


def _step_lines(step: Step) -> list[str]:
    return [step.name, step.kernel] if step.kernel else [step.name]


def _attending_conv(drawing: Drawing, x: float, y: float, step: Step) -> Box:
    """Draw a convolution and, below it, the attention on its weights, which sees the same input."""
    lines = _step_lines(step)
    width = max(box_size(lines)[0], 70)
    box = drawing.box(x, y, lines, "conv", width)
    if step.weights_attend:
        attention = drawing.box(x - 8, y + box.height + 26, ["attention A"], "attn")
        drawing.line([(box.top[0], attention.y), box.bottom], "mask")
        drawing.text(box.top[0] + 6, attention.y - 9, f"K {TIMES} {step.factor}", 11, "soft")
        before = x - GAP / 2
        points = [(before, box.left[1]), (before, attention.left[1]), attention.left]
        drawing.line(points, "mask")
    return box


def _run(drawing: Drawing, x: float, y: float, steps: Sequence[Step], before: Point) -> tuple[float, Point]:
    """Draw units in a row after ``before``; return the next unit's position and the end of the line."""
    for step in steps:
        box = _attending_conv(drawing, x, y, step)
        drawing.line([before, box.left], "flow")
        before, x = box.right, box.x + box.width + GAP
        for layer in step.behind:
            box = _layer(drawing, x, y, layer, box.height)
            drawing.line([before, box.left], "flow")
            before, x = box.right, box.x + box.width + GAP
    return x, before


def _layer(drawing: Drawing, x: float, y: float, layer: str, height: float) -> Box:
    """Draw a layer after a unit, on the line through the middles of the units."""
    return drawing.box(x, y + (height - box_size([layer])[1]) / 2, [layer], "attn")


def _draw_block(block: Block) -> Drawing:
    return _draw_feedback(block) if block.td else _draw_straight(block)


def _finish(drawing: Drawing, block: Block, before: Point, start: Point, top: float) -> None:
    """Draw the sum with the shortcut right of the drawing so far; the shortcut passes above, at ``top``."""
    if not block.shortcut:
        drawing.line([before, (before[0] + GAP, before[1])], "flow")
        return
    plus = drawing.sign(max(before[0], drawing.width) + GAP, before[1], "+")
    drawing.line([before, plus.left], "flow")
    drawing.line([start, (start[0], top), (plus.top[0], top), plus.top], "to")
    drawing.text(start[0] + 8, top - 5, "shortcut", 11, "soft")
    drawing.line([plus.right, (plus.right[0] + GAP, plus.right[1])], "flow")


def _draw_straight(block: Block) -> Drawing:
    drawing = Drawing()
    y = 34.0
    middle = y + box_size(_step_lines(block.steps[0]))[1] / 2
    drawing.text(0, middle + 4, "x", 13, "head")
    _, before = _run(drawing, 52, y, block.steps, (12, middle))
    _finish(drawing, block, before, (20, middle), 14)
    return drawing


def _draw_feedback(block: Block) -> Drawing:
    """Draw each step as a row; its input is the input of the step above, modulated by that step's top."""
    drawing = Drawing()
    assert block.td is not None
    count, distance = block.td["steps"], block.td["distance"]
    first = len(block.steps) - distance
    own, rerun = block.steps[:first], block.steps[first:]
    y = 44.0
    height = box_size(_step_lines(block.steps[0]))[1]
    attends = any(step.weights_attend for step in block.steps)
    row = height + (150 if attends else 96)
    middle = y + height / 2
    drawing.text(0, middle + 4, "x", 13, "head")
    start = (20.0, middle)
    x, before = _run(drawing, 52, y, own, (12, middle))
    bottom = x + 6
    for step in range(1, count + 1):
        level = y + (step - 1) * row
        middle = level + height / 2
        if step == 1:
            drawing.line([before, (bottom, middle)], "flow", tip=False)
        drawing.text(bottom + 8, level - 6, f"step {step}", 11.5, "soft")
        _, end = _run(drawing, bottom + GAP, level, _tops(rerun, step < count), (bottom, middle))
        if step == count:
            _finish(drawing, block, end, start, 14)
            break
        lines = ["TD attention", block.td["mode"]]
        attention_y = middle + height / 2 + (row - height - box_size(lines)[1]) / 2
        attention_y += 26 if attends else 0
        right = max(end[0], bottom + GAP + box_size(lines)[0] + 10) + 16
        attention = drawing.box(bottom + GAP, attention_y, lines, "attn")
        drawing.line([end, (right, end[1]), (right, attention.right[1]), attention.right], "mask")
        drawing.text(right + 6, attention.right[1] - 6, "top", 11, "soft")
        product = drawing.sign(bottom, attention.left[1], TIMES, "attn")
        drawing.line([(bottom, middle), product.top], "flow")
        drawing.line([attention.left, product.right], "mask")
        if block.td["mode"] == "joint":
            at = attention.y - 12
            drawing.line([(bottom, at), (attention.top[0], at), attention.top], "mask")
            drawing.text(attention.top[0] + 6, at - 3, "bottom", 11, "soft")
        below = level + row + height / 2
        drawing.line([product.bottom, (bottom, below)], "flow", tip=False)
    return drawing


def _tops(steps: Sequence[Step], feeds_back: bool) -> list[Step]:
    """The units that run in a step; those after the last norm run only in the last step."""
    if not feeds_back or not steps:
        return list(steps)
    *inner, last = steps
    return [*inner, Step(last.name, last.kernel, last.weights_attend)]


def _draw_followed(followed: Followed) -> Drawing:
    drawing = Drawing()
    module = drawing.box(GAP, 0, [followed.type or "output"], "conv")
    before: Point = module.right
    for layer in followed.layers:
        box = _layer(drawing, before[0] + GAP, 0, layer, module.height)
        drawing.line([before, box.left], "flow")
        before = box.right
    drawing.line([(0, module.left[1]), module.left], "flow")
    drawing.line([before, (before[0] + GAP, before[1])], "flow")
    return drawing


def _draw_pyramid(pyramid: Pyramid) -> Drawing:
    drawing = Drawing()
    attends = any(level.lateral.startswith("AW") for level in pyramid.levels)
    row = 118.0 if attends else 62.0
    with_lateral = [level for level in pyramid.levels if level.lateral]
    columns = [0.0, 84.0]
    wide = any(level.before_lateral for level in with_lateral)
    lateral_x = columns[1] + (110 if wide else 0)
    sum_x = lateral_x + 170
    output_x = sum_x + 60 + (110 if any(level.before_output for level in pyramid.levels) else 0)
    sums = []
    for index, level in enumerate(pyramid.levels):
        y = index * row
        sums.append(_draw_level(drawing, level, index, y, columns, lateral_x, sum_x, output_x))
    for fine, coarse in pairwise(sums[: len(with_lateral)]):
        drawing.line([(coarse[0], coarse[1] - 10), (fine[0], fine[1] + 10)], "to")
        drawing.text(fine[0] + 6, (fine[1] + coarse[1]) / 2 + 4, "up", 11, "soft")
    return drawing


def _draw_level(
    drawing: Drawing,
    level: Level,
    index: int,
    y: float,
    columns: list[float],
    lateral_x: float,
    sum_x: float,
    output_x: float,
) -> Point:
    middle = y + box_size(["", ""])[1] / 2
    if level.lateral:
        box = drawing.box(columns[0], middle - 12, [f"map {index + 1}"])
        before = box.right
        if level.before_lateral:
            box = _layer(drawing, columns[1], y, level.before_lateral, box_size(["", ""])[1])
            drawing.line([before, box.left], "flow")
            before = box.right
        conv = _attending_conv(drawing, lateral_x, y, _conv_step("lateral", level.lateral))
        drawing.line([before, conv.left], "flow")
        before = conv.right
        plus = drawing.sign(sum_x, middle, "+")
        drawing.line([before, plus.left], "flow")
        before = plus.right
    else:
        drawing.text(sum_x - 10, middle + 4, "extra level", 11, "soft", "end")
        before = (sum_x + 10, middle)
    if level.before_output:
        box = _layer(drawing, sum_x + 34, y, level.before_output, box_size(["", ""])[1])
        drawing.line([before, box.left], "flow")
        before = box.right
    conv = _attending_conv(drawing, output_x, y, _conv_step("output", level.output))
    drawing.line([before, conv.left], "flow")
    out = drawing.box(output_x + 150, middle - 12, [level.shape or "out"])
    drawing.line([conv.right, out.left], "flow")
    return sum_x, middle


def _conv_step(name: str, kernel: str) -> Step:
    return Step(name, kernel.removeprefix("AW "), kernel.startswith("AW "))


def _draw_head(head: Head) -> Drawing:
    drawing = Drawing()
    row, x = 76.0, 0.0
    ends = []
    width = max(box_size(["local map l", text])[0] for text in head.levels)
    compared = box_size([head.compatibility, "softmax over positions"])[0]
    g_y = 10 + len(head.levels) * row
    g = drawing.box(x, g_y, ["global feature g", head.query], "plain", width) if head.query else None
    column = x + width + 2 * GAP
    for index, text in enumerate(head.levels):
        y = 10 + index * row
        box = drawing.box(x, y, ["local map l", text], "plain", width)
        second = "softmax over positions" if head.query else "1x1, BN, ReLU"
        attention = drawing.box(column, y, [head.compatibility, second], "attn", compared)
        drawing.line([box.right, attention.left], "flow")
        product = drawing.sign(attention.x + attention.width + GAP + 10, attention.right[1], TIMES, "attn")
        drawing.line([attention.right, product.left], "mask")
        above = y - 8
        bend = box.x + box.width + 12
        points = [(bend, box.right[1]), (bend, above), (product.top[0], above), product.top]
        drawing.line(points, "flow")
        ends.append(product.right)
        if g is not None:
            turn = column - 16
            drawing.line(
                [
                    g.right,
                    (turn, g.right[1]),
                    (turn, attention.left[1] + 12),
                    (column, attention.left[1] + 12),
                ],
                "mask",
            )
    target_x = ends[0][0] + 2 * GAP
    middle = sum(y for _, y in ends) / len(ends)
    what = "sums over positions" if head.query else "means over positions"
    target = drawing.box(target_x, middle - box_size(["", ""])[1] / 2, [what, head.result])
    for end in ends:
        bus = target_x - GAP
        drawing.line([end, (bus, end[1]), (bus, target.left[1]), target.left], "flow")
    drawing.line([target.right, (target.right[0] + GAP, target.right[1])], "flow")
    drawing.text(target.right[0] + GAP + 6, target.right[1] + 4, "scores", 12)
    return drawing
