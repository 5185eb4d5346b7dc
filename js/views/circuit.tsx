// A circuit: nodes at their positions and layers, edges between them, and what the selected node hears and says.
import { useEffect, useMemo, useState } from "preact/hooks";
import { count, format } from "../colour.ts";
import { OWN_KEYS } from "../parts/controls.tsx";
import { Test } from "../parts/faithful.tsx";
import { Frame } from "../parts/frame.tsx";
import { type Box, type Facts, type Graph, graphOf, type Line, type Shown, shownOf, sizeAt } from "../parts/graph.ts";
import { Naming } from "../parts/naming.tsx";
import { Plane } from "../parts/plane.tsx";
import { useTiles, useTraits, view } from "../view.tsx";

interface Traits {
  title: string;
  facts: Facts;
  node: string;
  layer: number | null;
  head: number | null;
  position: number | null;
  feature: number | null;
  feature_layer: number | null;
  threshold: number;
  pinned: string[];
  supernodes: string[][];
  node_labels: Record<string, string>;
  search: string;
  _live: boolean;
}

const TRAITS = [
  "title", "facts", "node", "layer", "head", "position", "feature", "feature_layer", "threshold", "pinned", "supernodes", "node_labels", "search",
  "_live",
] as const; // prettier-ignore

const NODES = JSON.stringify({ what: "nodes" });
const EDGES = JSON.stringify({ what: "edges" });
const LISTED = 40; // edges into a node, and out of it

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
        ? {
            node: box.node.id,
            layer: box.node.layer,
            head: box.node.kind === "head" ? box.node.number : null,
            position: box.node.pos,
            ...(box.node.kind === "feature" &&
              box.node.number !== null && { feature: box.node.number, feature_layer: box.node.layer }),
          }
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
      <Plane
        graph={graph}
        shown={shown}
        facts={facts}
        selected={selected}
        hovered={hovered}
        pinned={pinned}
        search={search}
        labels={node_labels}
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
        {...OWN_KEYS}
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
      {group ? ` (${members.length} nodes)` : name !== node.name && ` (${node.name})`}: edges {into} in, {out} out
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

export default view(Circuit);
