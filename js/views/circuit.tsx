// A circuit: nodes at their positions and layers, edges between them, and what the selected node hears and says.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { count, css, format, type Scale } from "../colour.ts";
import { type Faithful, FaithfulTable } from "../parts/faithful.tsx";
import { Frame } from "../parts/frame.tsx";
import { type Box, type Graph, graphOf, layoutOf, type Layout, type Line, type Shown, shownOf, sizeAt } from "../parts/graph.ts"; // prettier-ignore
import { usePromptTokens } from "../parts/token.tsx";
import { NARROW, px, useDark, useTiles, useTraits, useWidth, view } from "../view.tsx";

interface Traits {
  title: string;
  facts: Facts;
  node: string;
  layer: number | null;
  head: number | null;
  position: number | null;
  threshold: number;
  pinned: string[];
  supernodes: string[][];
  node_labels: Record<string, string>;
  search: string;
  _live: boolean;
}

interface Facts {
  nodes: number;
  edges: number;
  sent: number;
  total: number;
  tokens: number;
  heads: number;
  metric: string;
  how: string;
  test: "nodes" | "edges" | "";
}

const TRAITS = [
  "title", "facts", "node", "layer", "head", "position", "threshold", "pinned", "supernodes", "node_labels", "search",
  "_live",
] as const; // prettier-ignore

const NODES = JSON.stringify({ what: "nodes" });
const EDGES = JSON.stringify({ what: "edges" });
const DRAWN = 2000; // edges, the strongest
const LISTED = 40; // edges into a node, and out of it
const BOX = 22; // pixels: how high a node is
const ARRIVES: Record<string, number> = { q: -0.3, v: 0.3 }; // from the middle of a head's box, in widths of it

function Circuit() {
  const [traits, set] = useTraits<Traits>(TRAITS);
  const { facts, threshold, pinned, supernodes, node_labels, search } = traits;
  const tiles = useTiles(facts.sent ? [NODES, EDGES] : [NODES]);
  const [nodesTile, edgesTile] = [tiles.get(NODES), tiles.get(EDGES)];
  const ready = nodesTile && (edgesTile || !facts.sent);
  const graph = useMemo(() => (ready ? graphOf(nodesTile, edgesTile) : undefined), [nodesTile, edgesTile]);
  const shown = useMemo(() => graph && shownOf(graph, threshold, pinned, supernodes), [graph, threshold, pinned, supernodes]); // prettier-ignore
  const [hovered, setHovered] = useState<Box | null>(null);
  useEffect(() => setHovered(null), [shown]);

  const nameOf = (box: Box) => box.group || node_labels[box.node.id] || box.node.label || box.node.name;
  const place = graph?.at.get(traits.node);
  const selected = place === undefined ? undefined : shown?.of.get(place);
  const select = (box: Box | undefined) =>
    set(
      box && box !== selected
        ? { node: box.node.id, layer: box.node.layer, head: box.node.kind === "head" ? box.node.number : null, position: box.node.pos } // prettier-ignore
        : { node: "" },
    );
  if (!graph || !shown) return <div class="iw-status">{tiles.errors[0] ?? "…"}</div>;
  const kept = graph.sums[shown.edges]! / (facts.total || 1);
  const marked = hovered ?? selected;
  return (
    <Frame
      name="circuit"
      title={traits.title}
      about={
        <>
          Each box is a part of the model, from the embedding at the bottom to the logits on top; an edge is what one
          tells another, as wide as its |effect|. A hypothesis, until it is tested.
        </>
      }
      controls={
        <>
          <Threshold graph={graph} edges={shown.edges} onChange={(next) => set({ threshold: next })} />
          <span class="iw-circuit-kept">
            {count(shown.edges)} of {count(facts.edges)} edges, <b>{(100 * kept).toFixed(1)} %</b> of Σ|effect|;{" "}
            {count(shown.ids.length)} of {count(facts.nodes)} nodes
          </span>
          <label>
            search{" "}
            <input
              type="search"
              value={search}
              placeholder="node"
              onInput={(event) => set({ search: event.currentTarget.value })}
            />
          </label>
        </>
      }
      status={
        marked ? (
          <About box={marked} name={nameOf(marked)} shown={shown} metric={facts.metric} held={!hovered} />
        ) : (
          "Hover a node to see whom it hears and tells; click to keep it. Arrow keys move."
        )
      }
    >
      <Drawing
        graph={graph}
        shown={shown}
        facts={facts}
        selected={selected}
        hovered={hovered}
        pinned={pinned}
        search={search}
        nameOf={nameOf}
        onHover={setHovered}
        onSelect={select}
      />
      {facts.sent < facts.edges && (
        <small>
          Here are the {count(facts.sent)} strongest of {count(facts.edges)} edges.
        </small>
      )}
      <Naming traits={traits} set={set} selected={selected} name={selected ? nameOf(selected) : ""} />
      {selected && <Lists box={selected} shown={shown} nameOf={nameOf} onSelect={select} />}
      {facts.test && <Test traits={traits} shown={shown} />}
    </Frame>
  );
}

/** How many edges are shown: few of them finely, many in larger steps. */
function Threshold({ graph, edges, onChange }: { graph: Graph; edges: number; onChange: (least: number) => void }) {
  const total = graph.sums.length - 1;
  const [slid, slide] = useState(0);
  const fine = total <= 300;
  const countOf = (value: number) => (fine ? value : Math.round(total ** (value / 1000)));
  const valueOf = (n: number) => (fine ? n : n && Math.round((1000 * Math.log(n)) / Math.log(total)));
  const least = edges ? sizeAt(graph, edges - 1) : 0;
  return (
    <label>
      threshold{" "}
      <input
        type="range"
        min={Math.min(1, total)}
        max={fine ? total : 1000}
        value={countOf(slid) === edges ? slid : valueOf(edges)}
        aria-valuetext={`${count(edges)} edges, |effect| ${format(least)} or more`}
        onInput={(event) => {
          const value = event.currentTarget.valueAsNumber;
          slide(value);
          onChange(sizeAt(graph, countOf(value) - 1) * (1 - 2 ** -22)); // rounding hides no edge in Python
        }}
      />{" "}
      |effect| ≥ {format(least)}
    </label>
  );
}

function Drawing({
  graph,
  shown,
  facts,
  selected,
  hovered,
  pinned,
  search,
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
            {wide >= 24 && <bdi>{text}</bdi>}
          </button>
        );
      }),
    [shown, layout, selected, search, nameOf(shown.boxes[0]!), pinned, graph],
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
        class={`iw-circuit-plane${marked ? " iw-dimmed" : ""}`}
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

function About({
  box,
  name,
  shown,
  metric,
  held,
}: {
  box: Box;
  name: string;
  shown: Shown;
  metric: string;
  held: boolean;
}) {
  // prettier-ignore
  const { node, group, members } = box;
  const into = shown.lines.filter(({ target }) => target === box).length;
  const out = shown.lines.filter(({ source }) => source === box).length;
  const known = !group && node.effect !== null;
  return (
    <>
      <b>
        <bdi>{name}</bdi>
      </b>
      {group ? ` (${members.length} nodes)` : name !== node.name && ` (${node.name})`}: {into} edges in, {out} out
      {known && (
        <>
          ; effect{metric && ` on ${metric}`} <b>{format(node.effect!)}</b>
          {node.low !== null && ` (95 % ${format(node.low)} … ${format(node.high!)})`}
        </>
      )}
      {held && <small> selected</small>}
    </>
  );
}

function Lists({
  box,
  shown,
  nameOf,
  onSelect,
}: {
  box: Box;
  shown: Shown;
  nameOf: (box: Box) => string;
  onSelect: (box: Box) => void;
}) {
  // prettier-ignore
  const list = (title: string, end: "source" | "target", lines: Line[]) => (
    <section aria-label={title}>
      <h4>
        {title} <small>{lines.length > LISTED ? `the ${LISTED} strongest of ${count(lines.length)}` : lines.length}</small>
      </h4>
      <ul>
        {lines.slice(0, LISTED).map((line) => (
          <li>
            <b>{format(line.effect)}</b>
            <button type="button" onClick={() => onSelect(line[end])}>
              <bdi>{nameOf(line[end])}</bdi>
            </button>
            <small>
              {[line.via && `by ${line.via}`, !Number.isNaN(line.low) && `95 % ${format(line.low)} … ${format(line.high)}`].filter(Boolean).join(", ")}
            </small>
          </li>
        ))}
      </ul>
    </section>
  );
  const name = nameOf(box);
  return (
    <div class="iw-circuit-lists">
      {list(
        `into ${name}`,
        "source",
        shown.lines.filter(({ target }) => target === box),
      )}
      {list(
        `out of ${name}`,
        "target",
        shown.lines.filter(({ source }) => source === box),
      )}
    </div>
  );
}

/** Pins, names and groups. */
function Naming({
  traits,
  set,
  selected,
  name,
}: {
  traits: Traits;
  set: (some: Partial<Traits>) => void;
  selected: Box | undefined;
  name: string;
}) {
  // prettier-ignore
  const { pinned, supernodes, node_labels } = traits;
  const [label, setLabel] = useState("");
  const [renamed, setRenamed] = useState<string | null>(null);
  const id = selected && !selected.group ? selected.node.id : undefined;
  useEffect(() => setRenamed(null), [id]);
  const rename = () => {
    if (id === undefined || renamed === null) return;
    const { [id]: _, ...others } = node_labels;
    set({ node_labels: renamed.trim() ? { ...others, [id]: renamed.trim() } : others });
    setRenamed(null);
  };
  const free = pinned.filter((each) => !supernodes.some((group) => group.slice(1).includes(each)));
  const group = (event: Event) => {
    event.preventDefault();
    const taken = supernodes.map(([each]) => each);
    if (label.trim() && !taken.includes(label.trim())) set({ supernodes: [...supernodes, [label.trim(), ...free]] });
    setLabel("");
  };
  return (
    <div class="iw-row iw-circuit-naming">
      {id !== undefined && (
        <>
          <button
            type="button"
            aria-pressed={pinned.includes(id)}
            onClick={() => set({ pinned: pinned.includes(id) ? pinned.filter((each) => each !== id) : [...pinned, id] })} /* prettier-ignore */
          >
            {pinned.includes(id) ? "unpin" : "pin"}
          </button>
          <form
            onSubmit={(event) => {
              event.preventDefault();
              rename();
            }}
          >
            <label>
              name{" "}
              <input
                value={renamed ?? name}
                onInput={(event) => setRenamed(event.currentTarget.value)}
                onBlur={rename}
              />
            </label>
          </form>
        </>
      )}
      {free.length > 1 && (
        <form onSubmit={group}>
          <label>
            group the {free.length} pinned as{" "}
            <input value={label} placeholder="name" onInput={(event) => setLabel(event.currentTarget.value)} />
          </label>{" "}
          <button type="submit">group</button>
        </form>
      )}
      {pinned.length > 0 && (
        <button type="button" onClick={() => set({ pinned: [] })}>
          unpin all {pinned.length}
        </button>
      )}
      {supernodes.map((one) => (
        <button
          type="button"
          onClick={() => set({ supernodes: supernodes.filter((each) => each !== one) })}
          title="Take this group apart"
        >
          {" "}
          {/* prettier-ignore */}
          <bdi>{one[0]}</bdi> ({one.length - 1}) ×
        </button>
      ))}
    </div>
  );
}

/** Everything outside ablated: asked for by a click, since it runs the model. */
function Test({ traits, shown }: { traits: Traits; shown: Shown }) {
  const { facts, pinned, threshold, _live } = traits;
  const nodes = pinned.length ? pinned : shown.ids;
  const key = JSON.stringify({ what: "faithfulness", nodes, ...(facts.test === "edges" && { threshold }) });
  const [asked, ask] = useState("");
  const wanted = !_live || asked === key;
  const { get, errors } = useTiles(wanted ? [key] : []);
  const found = get(key)?.json as Faithful | undefined;
  const what = `${pinned.length ? "the pinned" : "these"} ${count(nodes.length)} nodes`;
  return (
    <div class="iw-circuit-tests">
      {_live && !(wanted && found) && (
        <button type="button" onClick={() => ask(key)}>
          Ablate everything outside {what}
        </button>
      )}
      {found ? (
        <FaithfulTable found={found} />
      ) : wanted ? (
        <small>{errors[0] ? (_live ? errors[0] : `No test of ${what} was stored in this copy.`) : " running …"}</small>
      ) : (
        <small> Does the circuit do the task, and nothing else? Random circuits of this size are run beside it.</small>
      )}
    </div>
  );
}

export default view(Circuit);
