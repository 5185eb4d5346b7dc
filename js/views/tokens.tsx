// Text on the colour of one or many values a token.
import { useMemo, useState } from "preact/hooks";
import { count, format, type Scale, type ScaleKind } from "../colour.ts";
import { Choice, Select, Toggle } from "../parts/controls.tsx";
import { Flow, type Span, type Stripe } from "../parts/flow.tsx";
import { Frame } from "../parts/frame.tsx";
import { Legend } from "../parts/legend.tsx";
import { Search, useFound } from "../parts/search.tsx";
import { Spark } from "../parts/spark.tsx";
import { One, type TokenAt, usePromptTokens } from "../parts/token.tsx";
import { extent, scaleOf, useSeries } from "../parts/values.ts";
import { useDark, useTraits, useWidth, view } from "../view.tsx";

interface Prompt {
  name: string;
  size: number; // positions
  block: number; // positions in a tile of values
}

interface Traits {
  title: string;
  prompts: Prompt[];
  prompt: number;
  series_names: string[];
  series: string;
  side_by_side: boolean;
  scale: ScaleKind;
  colour_range: [number, number] | [];
  search: string;
  position: number | null;
  span: Span;
}

const TRAITS = [
  "title", "prompts", "prompt", "series_names", "series", "side_by_side", "scale", "colour_range", "search", "position",
  "span",
] as const; // prettier-ignore
const NO_VALUE = () => undefined;

function TokensView() {
  const [traits, set] = useTraits<Traits>(TRAITS);
  const { prompts, prompt, series_names: names, side_by_side: beside, position, span } = traits;
  const { size, block } = prompts[prompt]!;
  const width = useWidth();
  const dark = useDark();
  const [hovered, setHovered] = useState<number | null>(null);
  const tokenAt = usePromptTokens(prompt, 0, size);
  const { series, errors } = useSeries(prompt, size, block, names.length);

  const shown = names.indexOf(traits.series);
  const [from, to] = traits.colour_range;
  const scales = useMemo(
    () => series?.map((values, i) => scaleOf(values, traits.scale, dark, i === shown ? [from, to] : [])),
    [series, traits.scale, dark, shown, from, to],
  );
  const scale: Scale = scales?.[shown] ?? scaleOf(new Float32Array(), traits.scale, dark, []);
  const valueAt = useMemo(() => (series?.[shown] ? (i: number) => series[shown]![i]! : NO_VALUE), [series, shown]);
  const stripes = useMemo(
    (): Stripe[] =>
      beside && series && scales
        ? series.map((values, i) => ({ name: names[i]!, valueAt: (at) => values[at]!, scale: scales[i]! }))
        : [],
    [beside, series, scales, names],
  );
  const found = useFound(traits.search, size, tokenAt);
  const marked = useMemo(() => new Set(found), [found]);

  const values = series?.[shown];
  const [low, high] = useMemo(() => (values ? extent(values) : [0, 1]), [values]);

  return (
    <Frame
      name="tokens-view"
      title={traits.title}
      about={
        <>
          {count(size)} tokens{names.length > 0 && <>, each on the colour of its {traits.series}</>}
          {beside && "; the stripes under a line are all series"}. Click a token to select it, drag to select several.
        </>
      }
      controls={
        <>
          {prompts.length > 1 && (
            <Select
              label="prompt"
              value={prompt}
              options={prompts.map(({ name }, i) => [i, name])}
              onChange={(next) => set({ prompt: next, position: null, span: [] })}
            />
          )}
          {names.length > 1 && (
            <>
              <Select
                label="colour by"
                value={traits.series}
                options={names.map((name) => [name, name])}
                onChange={(next) => set({ series: next, colour_range: [] })}
              />
              <Toggle label="all series" value={beside} onChange={(side_by_side) => set({ side_by_side })} />
            </>
          )}
          {names.length > 0 && (
            <Choice
              label="scale"
              value={traits.scale}
              options={["linear", "sqrt", "log"]}
              onChange={(kind) => set({ scale: kind })}
            />
          )}
          <Search
            search={traits.search}
            found={found}
            from={position}
            onSearch={(search) => set({ search })}
            onNext={(at) => set({ position: at, span: [] })}
          />
        </>
      }
      status={<Pointed {...{ tokenAt, names, series, position, span, hovered, shown }} />}
    >
      <Flow
        label={`Text on the colour of ${traits.series || "nothing"}`}
        {...{ size, tokenAt, valueAt, scale, stripes, position, span, width }}
        found={marked}
        onHover={setHovered}
        onSelect={(at, to) => set({ position: at, span: to })}
      />
      {errors.map((error) => (
        <small class="iw-note" role="alert">
          {error}
        </small>
      ))}
      {values && (
        <>
          <Spark
            {...{ values, low, high, width, position, span, hovered }}
            what={traits.series}
            onHover={setHovered}
            onSelect={(at) => set({ position: at, span: [] })}
          />
          <Legend
            scale={scale}
            what={traits.series}
            automatic={!traits.colour_range.length}
            onRange={(colour_range) => set({ colour_range })}
          />
        </>
      )}
    </Frame>
  );
}

/** The token pointed at or selected, and the exact value of every series; of a span, their means. */
function Pointed({
  tokenAt,
  names,
  series,
  position,
  span,
  hovered,
  shown,
}: {
  tokenAt: TokenAt;
  names: string[];
  series: Float32Array[] | undefined;
  position: number | null;
  span: Span;
  hovered: number | null;
  shown: number;
}) {
  const at = hovered ?? (span.length ? null : position);
  if (at === null && !span.length) return <small>Point at a token to read its values.</small>;
  const [first, last] = at === null ? (span as [number, number]) : [at, at + 1];
  return (
    <>
      {at === null ? (
        <>
          {count(last - first)} tokens, <One token={tokenAt(first)} position={first} /> to{" "}
          <One token={tokenAt(last - 1)} position={last - 1} />
        </>
      ) : (
        <One token={tokenAt(at)} position={at} />
      )}
      {names.map((name, i) => (
        <span class={i === shown ? "iw-reading iw-shown" : "iw-reading"}>
          {at === null && "mean "}
          {name} <b>{reading(series?.[i], first, last)}</b>
        </span>
      ))}
    </>
  );
}

function reading(values: Float32Array | undefined, first: number, last: number): string {
  if (!values) return "…";
  const there = values.subarray(first, last).filter((value) => !Number.isNaN(value));
  return there.length ? format(there.reduce((sum, value) => sum + value, 0) / there.length) : "missing";
}

export default view(TokensView);
