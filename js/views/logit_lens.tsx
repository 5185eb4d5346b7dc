// The logit lens: layers × positions, in each cell what the model would say there; below, who wrote it.
import { useCallback, useLayoutEffect, useMemo, useState } from "preact/hooks";
import { count, format, type Scale, type ScaleKind } from "../colour.ts";
import { Contributions, type Term } from "../parts/contributions.tsx";
import { Choice, Select } from "../parts/controls.tsx";
import { Frame } from "../parts/frame.tsx";
import { Grid, type GridCell } from "../parts/grid.tsx";
import { Legend } from "../parts/legend.tsx";
import { One, usePromptTokens } from "../parts/token.tsx";
import { Trajectory } from "../parts/trajectory.tsx";
import { type Asked, NARROW, useDark, useTiles, useTraits, useWidth, view } from "../view.tsx";

type Measure = "probability" | "entropy" | "kl" | "token_probability" | "token_rank";

interface Prompt {
  name: string;
  model: string;
  kind: string;
  site: string;
  layers: number[];
  size: number;
  block: number; // positions in a tile
  vocabulary: number;
  kl: boolean;
}

interface Traits {
  title: string;
  prompts: Prompt[];
  prompt: number;
  compare: number | null;
  layer: number;
  position: number;
  measure: Measure;
  token: string;
  top_k: number;
  scale: ScaleKind;
  colour_range: [number, number] | [];
}
const TRAITS = [
  "title", "prompts", "prompt", "compare", "layer", "position", "measure", "token", "top_k", "scale", "colour_range",
] as const; // prettier-ignore

interface Found {
  token: number;
  text: string;
}
interface CellTile {
  tokens: string[];
  ids: number[];
  ranks: number[];
  lines: number[][]; // [token][layer]
}
interface WritesTile {
  token: string;
  labels: string[];
  values: number[];
  heads: number[][]; // [layer][head]
  total: number;
  scale: number;
  softcap: number | null;
}

const LABELS = 34; // CSS pixels beside the layers
const ROW = 22;
const COLUMN = [46, 96] as const;
const FLOORS: Partial<Record<Measure, number>> = { entropy: 1e-2, kl: 1e-3, token_rank: 0.5 }; // as in logit_lens_picture.py
const NOT_HERE = "not stored in this page";

const key = (of: object) => JSON.stringify(of);
const plane = { probability: 0, entropy: 1, kl: 2 };

/** What a lens says at the positions in a window, as far as it is here. */
function useNumbers(prompt: Prompt, at: number, [first, last]: [number, number], token: Found | undefined, of: string) {
  const blocks: number[] = [];
  for (let block = Math.floor(first / prompt.block); block * prompt.block < last; block++) blocks.push(block);
  const lens = (block: number) => key({ what: "lens", prompt: at, block });
  const tops = (block: number) => key({ what: "tops", prompt: at, block });
  const standing = (block: number) => key({ what: "standing", prompt: at, block, token: token?.token, of });
  const wanted = blocks.flatMap((block) => [lens(block), tops(block), ...(token && of ? [standing(block)] : [])]);
  const asked = useTiles(wanted);
  const depth = prompt.layers.length;
  const width = (block: number) => Math.min(prompt.block, prompt.size - block * prompt.block);
  const place = (layer: number, position: number) => {
    const block = Math.floor(position / prompt.block);
    return { block, i: layer * width(block) + (position % prompt.block), plane: depth * width(block) };
  };
  /** A number of a cell; NaN if it is not here. */
  const number = (which: keyof typeof plane, layer: number, position: number) => {
    const { block, i, plane: size } = place(layer, position);
    return asked.get(lens(block))?.data[plane[which] * size + i] ?? NaN;
  };
  const ofToken = (layer: number, position: number) => {
    const { block, i } = place(layer, position);
    return asked.get(standing(block))?.data[i] ?? NaN;
  };
  const top = (layer: number, position: number) => {
    const { block } = place(layer, position);
    return (asked.get(tops(block))?.json as string[][] | undefined)?.[layer]?.[position % prompt.block];
  };
  return { ...asked, number, ofToken, top, wanted: wanted.join("\n") };
}

/** The token that is followed, once Python has read its text. */
function useFound(prompt: number, text: string): { found: Found | undefined; asked: Asked } {
  const name = key({ what: "token", prompt, text });
  const asked = useTiles(text ? [name] : []);
  return { found: text ? (asked.get(name)?.json as Found | undefined) : undefined, asked };
}

interface Hovered extends GridCell {
  prompt: number;
}

function LogitLens() {
  const [traits, set] = useTraits<Traits>(TRAITS);
  const { prompts, layer, position, measure } = traits;
  const prompt = prompts[traits.prompt]!;
  const [hovered, setHovered] = useState<Hovered | null>(null);
  const width = useWidth();
  const panels = [
    traits.prompt,
    ...(traits.compare !== null && traits.compare !== traits.prompt ? [traits.compare] : []),
  ];
  const about = (
    <>
      What {prompt.model} would say after each layer: each cell holds the likeliest next token, read from {prompt.site}{" "}
      by the final norm and the unembedding. {prompt.layers.length} layers, the last on top; {count(prompt.size)}{" "}
      positions.
    </>
  );
  const options = (
    [
      ["probability", "probability of the top token"],
      ["entropy", "entropy (nats)"],
      ["kl", "KL from the model's own prediction (nats)"],
      ["token_probability", `probability of ${traits.token || "a token"}`],
      ["token_rank", `rank of ${traits.token || "a token"}`],
    ] as [Measure, string][]
  ).filter(([name]) => (name !== "kl" || prompt.kl) && (!name.startsWith("token_") || traits.token));
  const colour = (next: Measure) =>
    set({ measure: next, scale: next === "token_rank" ? "log" : "linear", colour_range: [] });
  const name = (i: number): [number, string] => [i, prompts[i]!.name];
  const others = prompts.map((_, i) => i).filter((i) => i !== traits.prompt);
  return (
    <Frame
      name="logit-lens"
      title={traits.title}
      about={about}
      controls={
        <>
          {prompts.length > 1 && (
            <>
              <Select
                label="prompt"
                value={traits.prompt}
                options={prompts.map((_, i) => name(i))}
                onChange={(next) => set({ prompt: next, ...fitted(prompts[next]!, layer, position) })}
              />
              <Select
                label="below it"
                value={traits.compare ?? -1}
                options={[[-1, "nothing"], ...others.map(name)]}
                onChange={(next) => set({ compare: next < 0 ? null : next })}
              />
            </>
          )}
          <Select label="colour" value={measure} options={options} onChange={colour} />
          <Follow traits={traits} set={set} />
        </>
      }
      status={<Status traits={traits} cell={hovered} />}
    >
      {panels.map((at) => (
        <figure key={at}>
          {panels.length > 1 && <figcaption>{prompts[at]!.name}</figcaption>}
          <Table
            traits={traits}
            at={at}
            width={width}
            legend={at === panels.at(-1)}
            onSelect={(chosen) => set(chosen)}
            onHover={(cell) => setHovered(cell && { ...cell, prompt: at })}
            onRange={(range) => set({ colour_range: range })}
            onScale={(kind) => set({ scale: kind })}
          />
        </figure>
      ))}
      <div class="iw-columns">
        {panels.map((at) => (
          <Details key={at} traits={traits} at={at} named={panels.length > 1} narrow={width < NARROW} set={set} />
        ))}
      </div>
    </Frame>
  );
}

/** The cell of another prompt that takes a cell's place. */
const fitted = ({ layers, size }: Prompt, layer: number, position: number) => ({
  layer: layers.includes(layer) ? layer : layers.at(-1)!,
  position: Math.min(position, size - 1),
});

/** A token to follow: typed here, and taken over once Python knows it. */
function Follow({ traits, set }: { traits: Traits; set: (some: Partial<Traits>) => void }) {
  const [typed, setTyped] = useState(traits.token);
  useLayoutEffect(() => setTyped(traits.token), [traits.token]);
  const { found, asked } = useFound(traits.prompt, typed);
  useLayoutEffect(() => {
    if (found && typed !== traits.token)
      set({ token: typed, measure: "token_probability", scale: "linear", colour_range: [] });
  }, [found, typed]);
  const choose = (text: string) => {
    setTyped(text);
    if (!text)
      set({ token: "", ...(traits.measure.startsWith("token_") && { measure: "probability", scale: "linear", colour_range: [] }) }); // prettier-ignore
  };
  return (
    <label title="As the model reads it, with its space: ␣Mary, or #17 for an id">
      follow a token{" "}
      <input type="search" value={typed} placeholder="␣Mary" onChange={(event) => choose(event.currentTarget.value)} />{" "}
      {asked.errors.map((error) => (
        <span class="iw-error" role="alert">
          {error === NOT_HERE ? "This copy knows the tokens that were followed when it was saved." : error}
        </span>
      ))}
    </label>
  );
}

function Table({
  traits,
  at,
  width,
  legend,
  onSelect,
  onHover,
  onRange,
  onScale,
}: {
  traits: Traits;
  at: number;
  width: number;
  legend: boolean; // one is enough
  onSelect: (cell: { layer: number; position: number }) => void;
  onHover: (cell: GridCell | null) => void;
  onRange: (range: [number, number] | []) => void;
  onScale: (kind: ScaleKind) => void;
}) {
  const prompt = traits.prompts[at]!;
  const { measure } = traits;
  const depth = prompt.layers.length;
  const dark = useDark();
  const [window, setWindow] = useState<[number, number]>([0, 0]);
  const { found } = useFound(at, traits.token);
  const of = measure.startsWith("token_") ? measure.slice(6) : "";
  const numbers = useNumbers(prompt, at, window, found, of);
  const tokens = usePromptTokens(at, window[0], window[1]);
  const fresh = [numbers.came, numbers.wanted, measure];
  const value = useCallback(
    (row: number, column: number) =>
      of
        ? numbers.ofToken(depth - 1 - row, column)
        : numbers.number(measure as keyof typeof plane, depth - 1 - row, column),
    fresh,
  );
  const text = useCallback((row: number, column: number) => numbers.top(depth - 1 - row, column), fresh);
  const [low = 0, chosen] = traits.colour_range as [number?, number?];
  const high = chosen ?? { probability: 1, token_probability: 1, entropy: Math.log(prompt.vocabulary), kl: Math.log(prompt.vocabulary), token_rank: prompt.vocabulary }[measure]; // prettier-ignore
  const scale = useMemo<Scale>(
    () => ({ kind: traits.scale, low, high, floor: FLOORS[measure] ?? 1e-4, signed: false, dark }),
    [traits.scale, low, high, measure, dark],
  );
  const columnLabel = useCallback((column: number) => tokens(column)?.text ?? "…", [tokens]);
  const name = { probability: "probability of the top token", entropy: "entropy, nats", kl: "KL(own prediction ‖ layer's), nats", token_probability: `probability of ${found?.text ?? traits.token}`, token_rank: `rank of ${found?.text ?? traits.token} (0: likeliest)` }[measure]; // prettier-ignore
  return (
    <>
      <Grid
        rows={depth}
        columns={prompt.size}
        value={value}
        scale={scale}
        rowLabel={(row) => String(prompt.layers[depth - 1 - row])}
        columnLabel={columnLabel}
        text={text}
        selected={{ row: depth - 1 - prompt.layers.indexOf(traits.layer), column: traits.position }}
        width={width}
        labelWidth={LABELS}
        cellWidth={COLUMN}
        cellHeight={ROW}
        axes={["layer ↑", "position, and its token →"]}
        label={`${prompt.kind}: rows are layers, the last on top, columns positions. Arrow keys move the selection.`}
        onSelect={({ row, column }) => onSelect({ layer: prompt.layers[depth - 1 - row]!, position: column })}
        onHover={onHover}
        onWindow={(first, last) => setWindow([first, last])}
      />
      {numbers.errors.map((error) => (
        <small class="iw-note" role="alert">
          {error === NOT_HERE ? "This copy does not hold these positions." : error}
        </small>
      ))}
      {numbers.missing > 0 && <span class="iw-busy">computing…</span>}
      {legend && (
        <div class="iw-row">
          <Legend scale={scale} what={name} automatic={chosen === undefined} onRange={onRange} />
          <Choice label="scale" value={traits.scale} options={["linear", "sqrt", "log"]} onChange={onScale} />
        </div>
      )}
    </>
  );
}

/** The cell that is pointed at, else the one selected, in words. */
function Status({ traits, cell }: { traits: Traits; cell: Hovered | null }) {
  const at = cell?.prompt ?? traits.prompt;
  const prompt = traits.prompts[at]!;
  const own = prompt.layers.indexOf(traits.layer);
  const layer = cell ? prompt.layers.length - 1 - cell.row : own;
  const position = Math.min(cell?.column ?? traits.position, prompt.size - 1);
  const of = traits.measure.startsWith("token_") ? traits.measure.slice(6) : "";
  const { found } = useFound(at, traits.token);
  const numbers = useNumbers(prompt, at, [position, position + 1], found, of);
  const tokens = usePromptTokens(at, position, position + 1);
  if (layer < 0) return <>Layer {traits.layer} is not in this lens.</>;
  const top = numbers.top(layer, position);
  const kl = numbers.number("kl", layer, position);
  const standing = numbers.ofToken(layer, position);
  return (
    <>
      layer {prompt.layers[layer]}, <One token={tokens(position)} position={position} />:{" "}
      {top === undefined ? (
        numbers.errors.length ? (
          "not stored in this copy"
        ) : (
          "…"
        )
      ) : (
        <>
          <bdi class="iw-token">{top}</bdi> <b>{format(numbers.number("probability", layer, position))}</b>, entropy{" "}
          {format(numbers.number("entropy", layer, position))} nats
          {!Number.isNaN(kl) && <>, KL {format(kl)} nats</>}
          {of && found && !Number.isNaN(standing) && (
            <>
              ; {of} of <bdi class="iw-token">{found.text}</bdi>{" "}
              <b>{of === "rank" ? count(standing) : format(standing)}</b>
            </>
          )}
        </>
      )}
      {!cell && <small> selected</small>}
    </>
  );
}

/** Of the selected cell: its likeliest tokens, their way there, and what wrote the logit. */
function Details({
  traits,
  at,
  named,
  narrow,
  set,
}: {
  traits: Traits;
  at: number;
  named: boolean;
  narrow: boolean;
  set: (some: Partial<Traits>) => void;
}) {
  const prompt = traits.prompts[at]!;
  const { layer, position } = fitted(prompt, traits.layer, traits.position);
  const { found } = useFound(at, traits.token);
  const token = traits.token ? found?.token : -1;
  const cellKey = key({ what: "cell", prompt: at, layer, position, token, k: traits.top_k });
  const writesKey = key({ what: "writes", prompt: at, layer, position, token });
  const asked = useTiles(token === undefined ? [] : [cellKey, writesKey]);
  const cell = asked.get(cellKey)?.json as CellTile | undefined;
  const writes = asked.get(writesKey)?.json as WritesTile | undefined;
  const trouble = (name: string) => {
    const error = asked.error(name)?.message;
    if (!error) return <small>…</small>;
    return <small role="alert">{error === NOT_HERE ? "This copy does not hold this cell." : error}</small>;
  };
  const i = prompt.layers.indexOf(layer);
  const main = cell ? Math.max(0, cell.ids.indexOf(token ?? -1)) : 0;
  return (
    <>
      <div class="iw-lens-cell">
        <div class="iw-caption">
          <b>
            After layer {layer}, position {position}
          </b>
          {named && ` · ${prompt.name}`}: the likeliest next tokens
        </div>
        {cell ? (
          <Likeliest cell={cell} at={i} chosen={token} onFollow={(text) => set({ token: text })} />
        ) : (
          trouble(cellKey)
        )}
      </div>
      <div class="iw-lens-line">
        <div class="iw-caption">
          probability of <bdi class="iw-token">{cell?.tokens[main] ?? "…"}</bdi> over layers
          {cell && cell.tokens.length > 1 && <small> (faint: the others of the list)</small>}
        </div>
        {cell && (
          <Trajectory
            courses={cell.lines.map((values, k) => ({ name: cell.tokens[k]!, values }))}
            main={main}
            layers={prompt.layers}
            layer={layer}
            what={`probability of ${cell.tokens[main]!}`}
            onSelect={(chosen) => set({ layer: chosen })}
          />
        )}
      </div>
      <div class="iw-lens-writes" style={narrow ? "flex-basis:100%" : ""}>
        <div class="iw-caption">
          what each component wrote to the logit of{" "}
          <bdi class="iw-token">{writes?.token ?? cell?.tokens[main] ?? "…"}</bdi>
        </div>
        {writes ? <Writes writes={writes} /> : trouble(writesKey)}
      </div>
    </>
  );
}

function Likeliest({
  cell,
  at,
  chosen,
  onFollow,
}: {
  cell: CellTile;
  at: number; // the layer's place
  chosen: number | undefined;
  onFollow: (text: string) => void;
}) {
  const most = Math.max(...cell.lines.map((line) => line[at]!), 1e-9);
  return (
    <table>
      <tbody>
        {cell.tokens.map((token, i) => (
          <tr class={cell.ids[i] === chosen ? "iw-chosen" : ""}>
            <td>
              <button type="button" title={`Follow it · id ${cell.ids[i]!}`} onClick={() => onFollow(token)}>
                <bdi class="iw-token">{token}</bdi>
              </button>
            </td>
            <td class="iw-bar">
              <i style={{ width: `${(100 * cell.lines[i]![at]!) / most}%` }} />
              <span>{format(cell.lines[i]![at]!)}</span>
            </td>
            <td>
              <small>rank {count(cell.ranks[i]!)}</small>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Writes({ writes }: { writes: WritesTile }) {
  const terms = writes.labels.map((label, i): Term => {
    const [, layer] = /^L(\d+) attn$/.exec(label) ?? [];
    const heads = layer === undefined ? [] : (writes.heads[Number(layer)] ?? []);
    if (!heads.length) return { label, value: writes.values[i]! };
    const parts = heads.map((value, head) => ({ label: `L${layer!}H${head}`, value }));
    const rest = writes.values[i]! - heads.reduce((sum, value) => sum + value, 0);
    if (Math.abs(rest) > 1e-4) parts.push({ label: "bias of its output", value: rest });
    return { label, value: writes.values[i]!, parts };
  });
  const shown = terms.filter(({ label, value }) => label !== "rest" || Math.abs(value) > 1e-3);
  return (
    <>
      <Contributions terms={shown} label={`What the logit of ${writes.token} is the sum of`} />
      <div>
        sum: logit <b>{format(writes.total)}</b>
        {writes.softcap !== null && <small> before the soft-cap at {writes.softcap}</small>}
        <small> · the final norm divides by {format(writes.scale)} here</small>
      </div>
    </>
  );
}

export default view(LogitLens);
