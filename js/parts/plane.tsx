// The picture of a circuit: edges on a canvas, nodes as buttons above it, one of them reached by the keyboard.
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { count, css, type Scale } from "../colour.ts";
import { NARROW, px, useDark, useWidth } from "../view.tsx";
import { type Box, type Facts, type Graph, type Layout, layoutOf, type Line, type Shown, sizeAt } from "./graph.ts";
import { usePromptTokens } from "./token.tsx";

const DRAWN = 2000; // edges, the strongest
const BOX = 22; // pixels: how high a node is
const ARRIVES: Record<string, number> = { q: -0.3, v: 0.3 }; // from the middle of a head's box, in widths of it

export function Plane({
  graph,
  shown,
  facts,
  selected,
  hovered,
  pinned,
  search,
  labels,
  nameOf,
  onHover,
  onSelect,
}: {
  graph: Graph;
  shown: Shown;
  facts: Facts;
  selected: Box | undefined;
  hovered: Box | null;
  pinned: string[];
  search: string;
  labels: Record<string, string>; // names that the reader gave: drawn again when they change
  nameOf: (box: Box) => string;
  onHover: (box: Box | null) => void;
  onSelect: (box: Box | undefined) => void;
}) {
  const width = useWidth();
  const dark = useDark();
  const plane = useRef<HTMLDivElement>(null);
  const [base, over] = [useRef<HTMLCanvasElement>(null), useRef<HTMLCanvasElement>(null)];
  const token = usePromptTokens(0, 0, facts.tokens);
  const left = width < NARROW ? 52 : 70;
  const layout = useMemo(() => layoutOf(shown.boxes, left, width - 8, facts.heads), [shown, width, facts]);
  const most = graph.rows.length ? sizeAt(graph, 0) : 1;
  const scale = useMemo<Scale>(() => ({ kind: "linear", low: 0, high: 1, floor: 0, signed: true, dark }), [dark]);
  const marked = hovered ?? selected;
  const own = useMemo(
    () => (marked ? shown.lines.filter(({ source, target }) => source === marked || target === marked) : []),
    [marked, shown],
  );
  useLayoutEffect(() => {
    paint(base.current!, width, layout, shown.lines.slice(0, DRAWN), most, scale);
  }, [layout, shown, most, scale]);
  useLayoutEffect(() => {
    paint(over.current!, width, layout, own.slice(0, DRAWN), most, scale);
  }, [layout, own, most, scale]);

  const words = search.trim().toLowerCase();
  const found = (box: Box) => words !== "" && `${nameOf(box)} ${box.node.name}`.toLowerCase().includes(words);
  const first = selected ?? layout.rows[0]?.boxes[0];
  const held = useRef(false); // whether the focus is on a node, and follows the selection
  useLayoutEffect(() => {
    if (held.current) plane.current!.querySelector<HTMLElement>('[tabindex="0"]')?.focus({ preventScroll: true });
  }, [selected]);

  // The same nodes again are skipped as a whole, so that pointing costs what it draws.
  const boxes = useMemo(
    () =>
      shown.boxes.map((box) => {
        const { x, y } = layout.at.get(box)!;
        const text = nameOf(box);
        const wide = layout.box < 24 ? layout.box : Math.min(layout.box, Math.max(28, 7.2 * text.length + 12));
        const mark = [
          box === selected && "iw-selected",
          found(box) && "iw-found",
          box.group && "iw-group-box",
          box.members.some((place) => pinned.includes(graph.nodes[place]!.id)) && "iw-pinned",
        ];
        return (
          <button
            key={box.key}
            type="button"
            class={["iw-circuit-node", ...mark].filter(Boolean).join(" ")}
            style={px({ left: x - wide / 2, top: y - BOX / 2, width: wide, height: BOX })}
            aria-pressed={box === selected}
            aria-label={labelOf(box, text)}
            title={labelOf(box, text)}
            tabIndex={box === first ? 0 : -1}
            onClick={() => onSelect(box)}
            onPointerEnter={() => onHover(box)}
            onPointerLeave={() => onHover(null)}
          >
            {(wide >= 44 || 7 * text.length < wide) && <bdi>{text}</bdi>}
          </button>
        );
      }),
    [shown, layout, selected, search, labels, pinned, graph],
  );

  const move = (event: KeyboardEvent) => {
    if (!first || !event.key.startsWith("Arrow")) return;
    event.preventDefault();
    const row = layout.rows.findIndex(({ boxes }) => boxes.includes(first));
    const { x } = layout.at.get(first)!;
    const across = [...layout.rows[row]!.boxes].sort((a, b) => layout.at.get(a)!.x - layout.at.get(b)!.x);
    const sideways = across[across.indexOf(first) + (event.key === "ArrowLeft" ? -1 : 1)];
    const other = layout.rows[row + (event.key === "ArrowUp" ? -1 : 1)]?.boxes;
    const near = other?.reduce((a, b) => (Math.abs(layout.at.get(b)!.x - x) < Math.abs(layout.at.get(a)!.x - x) ? b : a)); // prettier-ignore
    const next = event.key === "ArrowLeft" || event.key === "ArrowRight" ? sideways : near;
    if (next) onSelect(next);
  };

  const height = layout.height;
  return (
    <figure class="iw-circuit-figure">
      <div
        ref={plane}
        class={`iw-circuit-plane${hovered ? " iw-dimmed" : selected ? " iw-held" : ""}`}
        style={px({ height })}
        role="group"
        aria-label={`${shown.boxes.length} nodes in ${layout.rows.length} rows, layers upwards`}
        onKeyDown={move}
        onFocusIn={() => (held.current = true)}
        onFocusOut={() => (held.current = false)}
      >
        {layout.rows.map(({ name, y }) => (
          <span class="iw-circuit-row" style={px({ top: y })}>
            <i style={px({ width: left - 8 })}>{name}</i>
          </span>
        ))}
        <canvas ref={base} aria-hidden="true" onClick={() => selected && onSelect(undefined)} />
        <canvas ref={over} aria-hidden="true" class="iw-circuit-over" />
        {boxes}
      </div>
      {layout.columns.length > 0 && (
        <div class="iw-circuit-tokens" aria-hidden="true">
          {layout.columns.map(({ pos, x, width: room }) => (
            <span style={px({ left: x - room / 2, width: room })} class={room < 30 ? "iw-turned" : ""}>
              <bdi class="iw-token">{pos === null ? "any position" : (token(pos)?.text ?? String(pos))}</bdi>
              {pos !== null && facts.tokens > 0 && <sub>{pos}</sub>}
            </span>
          ))}
        </div>
      )}
      <figcaption>
        <span>{layout.columns.length ? "position →" : "heads of a layer side by side →"}</span>
        <span class="iw-circuit-legend">
          {[-1, -0.5, -0.1, 0.1, 0.5, 1].map((share) => (
            <span>
              <i style={{ height: `${widthOf(share)}px`, background: inkOf(scale, share) }} />
              {short(share * most)}
            </span>
          ))}
          effect of an edge{facts.metric && ` on ${facts.metric}`}
        </span>
        {shown.lines.length > DRAWN && <span>drawn: the {count(DRAWN)} strongest edges</span>}
      </figcaption>
    </figure>
  );
}

const short = (value: number) => String(Number(value.toPrecision(2))).replace("-", "−");
const widthOf = (share: number) => 0.6 + 4.4 * Math.abs(share);
const inkOf = (scale: Scale, share: number) => css(scale, Math.sign(share) * (0.25 + 0.6 * Math.abs(share))).background;
const labelOf = (box: Box, text: string) =>
  [text, box.group ? `${box.members.length} nodes` : box.node.name !== text && box.node.name]
    .filter(Boolean)
    .join(", ");

/** Draw edges, the strongest last and so on top. */
function paint(canvas: HTMLCanvasElement, width: number, layout: Layout, lines: Line[], most: number, scale: Scale) {
  const ratio = devicePixelRatio || 1;
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(layout.height * ratio)];
  canvas.style.cssText = `width:${width}px;height:${layout.height}px`;
  const context = canvas.getContext("2d")!;
  context.scale(ratio, ratio);
  for (const { source, target, via, effect } of [...lines].reverse()) {
    const [a, b] = [layout.at.get(source)!, layout.at.get(target)!];
    const share = Math.max(-1, Math.min(1, effect / most));
    const [x, y0, y1] = [b.x + (ARRIVES[via] ?? 0) * Math.min(layout.box, 34), a.y - BOX / 2, b.y + BOX / 2];
    const lean = Math.max(18, Math.abs(y1 - y0) / 2);
    context.beginPath();
    context.moveTo(a.x, y0);
    context.bezierCurveTo(a.x, y0 - lean, x, y1 + lean, x, y1);
    context.strokeStyle = inkOf(scale, share);
    context.lineWidth = widthOf(share);
    context.stroke();
  }
}
