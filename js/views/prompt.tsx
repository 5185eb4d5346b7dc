// A prompt to write on: its tokens, what the model says next, and what is changed in the model.
import { useMemo, useState } from "preact/hooks";
import { count, format } from "../colour.ts";
import { Select } from "../parts/controls.tsx";
import { Flow } from "../parts/flow.tsx";
import { Frame } from "../parts/frame.tsx";
import { Legend } from "../parts/legend.tsx";
import { type Outcome, OutcomeTable } from "../parts/outcome.tsx";
import { One, usePromptTokens } from "../parts/token.tsx";
import { scaleOf, useSeries } from "../parts/values.ts";
import { Writing } from "../parts/writing.tsx";
import { useDark, useShared, useTiles, useTraits, useWidth, view } from "../view.tsx";

interface Spec {
  kind: "zero" | "mean" | "scale" | "held";
  site?: string;
  layer?: number;
  head?: number | null;
  pos?: number | null;
  factor?: number;
}
interface Chip {
  label: string;
  on: boolean;
  spec: Spec;
}
interface Traits {
  title: string;
  text: string;
  chips: Chip[];
  position: number | null;
  size: number;
  context: number | null;
  layers: number;
  heads: number;
  error: string;
}

const TRAITS = ["title", "text", "chips", "position", "size", "context", "layers", "heads", "error"] as const;
const BLOCK = 16384; // as in views/prompt.py

function Prompt() {
  const { model } = useShared();
  const [traits, set] = useTraits<Traits>(TRAITS);
  const { size, context, position, chips, error } = traits;
  const live = model.get<boolean>("_live");
  const width = useWidth();
  const dark = useDark();
  const [hovered, setHovered] = useState<number | null>(null);
  const tokenAt = usePromptTokens(0, 0, size);
  const { series } = useSeries(0, size, BLOCK, 1);
  const values = series?.[0];
  const scale = useMemo(() => scaleOf(values ?? new Float32Array(), "linear", dark, []), [values, dark]);
  const valueAt = useMemo(() => (at: number) => values?.[at], [values]);

  const at = hovered ?? position ?? size - 1;
  const surprise = values?.[at] ?? NaN; // of a longer prompt, not here yet
  const key = JSON.stringify({ what: "next", position: position ?? size - 1 });
  const outcome = useTiles([key]).get(key)?.json as Outcome | undefined;
  const changed = chips.some(({ on }) => on);

  return (
    <Frame
      name="prompt"
      title={traits.title}
      about="Write, and the model reads along: each token is on the colour of its surprise, −log₂ of the probability that the model gave it. Click a token to see what the model expected after it."
      status={
        <>
          <One token={tokenAt(at)} position={at} />:{" "}
          {at === 0
            ? "nothing came before it"
            : !Number.isNaN(surprise) && (
                <>
                  surprise <b>{format(surprise)}</b> bits
                </>
              )}
        </>
      }
    >
      <Writing label="prompt" text={traits.text} live={live} onText={(text) => set({ text })} />
      <div class="iw-row">
        <small>
          {count(size)} token{size === 1 ? "" : "s"}
          {context !== null && ` of ${count(context)}`}
        </small>
        {error && (
          <small class="iw-error" role="alert">
            {error}
          </small>
        )}
      </div>
      <Flow
        label="The prompt's tokens on the colour of their surprise"
        {...{ size, tokenAt, valueAt, scale, position, width }}
        span={[]}
        lines={8}
        onHover={setHovered}
        onSelect={(next) => set({ position: next })}
      />
      <Legend scale={scale} what="surprise in bits" />
      <Chips traits={traits} live={live} onChips={(next) => set({ chips: next })} />
      {outcome &&
        (changed ? <OutcomeTable outcome={outcome} names={["as it is", "changed"]} /> : <Next outcome={outcome} />)}
    </Frame>
  );
}

const SITES: [string, string][] = [
  ["z", "a head (z)"],
  ["attn_out", "attention (attn_out)"],
  ["mlp_out", "MLP (mlp_out)"],
  ["resid_pre", "stream (resid_pre)"],
];
const KINDS: [Spec["kind"], string][] = [
  ["zero", "zero"],
  ["mean", "its mean"],
  ["scale", "times"],
];

/** The interventions, each on or off, and a form for one more. */
function Chips({ traits, live, onChips }: { traits: Traits; live: boolean; onChips: (chips: Chip[]) => void }) {
  const { chips, layers, heads } = traits;
  const [spec, setSpec] = useState<Required<Spec>>({
    kind: "zero",
    site: "z",
    layer: 0,
    head: 0,
    pos: null,
    factor: 2,
  });
  const numbers = (n: number): [number, string][] => Array.from({ length: n }, (_, i) => [i, String(i)]);
  const add = () => {
    const { kind, site, layer, head, pos, factor } = spec;
    const where = { kind, site, layer, head: site === "z" && head !== null && head >= 0 ? head : null, pos };
    onChips([...chips, { label: "…", on: true, spec: kind === "scale" ? { ...where, factor } : where }]);
  };
  return (
    <div class="iw-chips" role="group" aria-label="interventions">
      {chips.map((chip, i) => (
        <span class={chip.on ? "iw-chip" : "iw-chip iw-off"}>
          <label>
            <input
              type="checkbox"
              checked={chip.on}
              disabled={!live}
              onChange={(event) =>
                onChips(chips.map((each) => (each === chip ? { ...chip, on: event.currentTarget.checked } : each)))
              }
            />{" "}
            {chip.label}
          </label>
          {live && (
            <button
              type="button"
              aria-label={`remove ${chip.label}`}
              onClick={() => onChips(chips.filter((_, j) => j !== i))}
            >
              ×
            </button>
          )}
        </span>
      ))}
      {live && (
        <span class="iw-row">
          <Select label="change" value={spec.site} options={SITES} onChange={(site) => setSpec({ ...spec, site })} />
          <Select
            label="layer"
            value={spec.layer}
            options={numbers(layers)}
            onChange={(layer) => setSpec({ ...spec, layer })}
          />
          {spec.site === "z" && heads > 0 && (
            <Select
              label="head"
              value={spec.head ?? -1}
              options={[...numbers(heads), [-1, "all"]]}
              onChange={(head) => setSpec({ ...spec, head })}
            />
          )}
          <Select
            label="at"
            value={spec.pos ?? -1}
            options={[
              [-1, "all positions"],
              ...(traits.position === null
                ? []
                : [[traits.position, `position ${traits.position}`] as [number, string]]),
            ]}
            onChange={(pos) => setSpec({ ...spec, pos: pos < 0 ? null : pos })}
          />
          <Select label="to" value={spec.kind} options={KINDS} onChange={(kind) => setSpec({ ...spec, kind })} />
          {spec.kind === "scale" && (
            <input
              type="number"
              step="any"
              aria-label="factor"
              value={spec.factor}
              onChange={(event) => setSpec({ ...spec, factor: event.currentTarget.valueAsNumber || 0 })}
            />
          )}
          <button type="button" onClick={add}>
            add
          </button>
        </span>
      )}
    </div>
  );
}

/** What the model expects next, with nothing changed. */
function Next({ outcome: { tokens, before, position } }: { outcome: Outcome }) {
  const most = Math.max(...before);
  return (
    <div class="iw-outcome" role="group" aria-label="What the model expects next">
      <b>The token after position {position}</b>
      <table>
        <tbody>
          {tokens.slice(0, 8).map((token, i) => (
            <tr>
              <td>
                <bdi class="iw-token">{token}</bdi>
              </td>
              <td class="iw-bar">
                <i style={{ width: `${(100 * before[i]!) / most}%` }} />
                <span>{(100 * before[i]!).toFixed(1)} %</span>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export default view(Prompt);
