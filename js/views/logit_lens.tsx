// The logit lens: layers × positions, in each cell what the model would say there; below, who wrote it.
import { useCallback, useLayoutEffect, useMemo, useState } from "preact/hooks";
import { count, format, type Scale, type ScaleKind } from "../colour.ts";
import { Choice, Select } from "../parts/controls.tsx";
import { Frame } from "../parts/frame.tsx";
import { Grid, type GridCell } from "../parts/grid.tsx";
import { Legend } from "../parts/legend.tsx";
import { fitted, type Measure, NOT_HERE, plane, type Traits, useFound, useNumbers } from "../parts/lens.ts";
import { Details } from "../parts/lens_cell.tsx";
import { One, usePromptTokens } from "../parts/token.tsx";
import { NARROW, useDark, useTraits, useWidth, view } from "../view.tsx";

const TRAITS = [
  "title", "prompts", "prompt", "compare", "layer", "position", "measure", "token", "top_k", "scale", "colour_range",
] as const; // prettier-ignore

const LABELS = 34; // CSS pixels beside the layers
const ROW = 22;
const COLUMN = [46, 96] as const;
const FLOORS: Partial<Record<Measure, number>> = { entropy: 1e-2, kl: 1e-3, token_rank: 0.5 }; // as in logit_lens_picture.py

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

export default view(LogitLens);
