// Examples of a feature, one a line, the token that each is of in one column: what they share stands below each other.
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { count, css, type Scale } from "../colour.ts";
import { px, useTiles } from "../view.tsx";
import { type Example, type FeatureRecord, type Group, Pointing, short, type Spot } from "./feature.ts";

interface Whole {
  tokens: string[];
  values: number[] | null;
}
const wholeKey = (feature: number, { context }: Example) => JSON.stringify({ what: "whole", context, feature });

// As in style.css.
const LINE = 21; // CSS pixels of a line
const TALLEST = 440; // of what is in view
const AHEAD = 300; // drawn beyond it

export interface Jump {
  feature: number;
  group: number; // of those in `examples`
}

interface Props {
  record: FeatureRecord;
  examples: Example[][]; // the strongest, then those of each group
  width: number;
  whole: boolean;
  effects: boolean; // colours are what ablation does, not activations
  scale: Scale;
  selected: Spot | [];
  pointing: Pointing<Spot>;
  jump: Jump | null; // where to go now
  onSelect: (spot: Spot) => void; // group, example, position in its context
}

export function Concordance(props: Props) {
  const { record, examples, width, whole, effects, scale, selected, pointing, jump, onSelect } = props;
  const box = useRef<HTMLDivElement>(null);
  const [near, setNear] = useState<string>("0,0"); // examples in view, of which the whole context is asked for
  const keys = whole
    ? near.split(" ").flatMap((at) => {
        const [g, e] = at.split(",").map(Number);
        const example = examples[g!]?.[e!];
        return example ? wholeKey(record.index, example) : [];
      })
    : [];
  const { get, came } = useTiles([...new Set(keys)]);

  // Sections that are in view, or nearly, have their lines; the others are as high.
  const [top, setTop] = useState(0);
  const place = useRef(0); // scrolled to: to ask the page would have it laid out
  const look = () => {
    place.current = box.current!.scrollTop;
    setTop(Math.round(place.current / 100) * 100);
    if (!whole) return;
    const { top, bottom } = box.current!.getBoundingClientRect();
    const rows = [...box.current!.querySelectorAll<HTMLElement>("[data-example]")].filter((row) => {
      const place = row.getBoundingClientRect();
      return place.bottom > top - 200 && place.top < bottom + 200;
    });
    setNear(rows.map((row) => row.dataset.example).join(" "));
  };
  const scrollTo = (to: number) => {
    box.current!.scrollTop = to;
    look();
  };
  useLayoutEffect(() => {
    if (whole) look();
  }, [record, whole, came, examples]);
  useLayoutEffect(() => {
    if (place.current) scrollTo(0);
  }, [record.index]);
  useLayoutEffect(() => {
    const title = jump && box.current!.querySelectorAll("h4")[jump.group];
    if (title) scrollTo(place.current + title.getBoundingClientRect().top - box.current!.getBoundingClientRect().top);
  }, [jump]);
  useLayoutEffect(() => {
    if (!selected.length) return;
    const row = box.current!.querySelector(`[data-example="${selected[0]},${selected[1]}"]`)?.getBoundingClientRect();
    const { top, bottom } = box.current!.getBoundingClientRect();
    if (row && row.top < top) scrollTo(place.current + row.top - top);
    else if (row && row.bottom > bottom) scrollTo(place.current + row.bottom - bottom);
  }, [selected.join()]);

  const spotOf = ({ target }: Event): Spot | null => {
    const token = (target as Element).closest<HTMLElement>("[data-token]");
    const row = token?.closest<HTMLElement>("[data-example]");
    return row ? ([...row.dataset.example!.split(","), token!.dataset.token].map(Number) as Spot) : null;
  };
  const move = (event: KeyboardEvent) => {
    const places = examples.flatMap((some, g) => some.map((each, e) => [g, e, each] as const));
    const now = places.findIndex(([g, e]) => g === selected[0] && e === selected[1]);
    const go = (n: number, step = 0) => {
      const [g, e, { tokens, position, start }] = places[Math.max(0, Math.min(places.length - 1, n))]!;
      const at = step ? (selected[2] ?? start + position) + step : start + position;
      onSelect([g, e, Math.max(start, Math.min(start + tokens.length - 1, at))]);
    };
    const moves: Record<string, () => void> = {
      ArrowDown: () => go(now + 1),
      ArrowUp: () => go(now - 1),
      ArrowLeft: () => go(now, -1),
      ArrowRight: () => go(now, 1),
    };
    if (!places.length || !moves[event.key]) return;
    event.preventDefault();
    moves[event.key]!();
  };

  // The same lines again are skipped as a whole, so that pointing costs what it draws.
  const lines = useMemo(() => {
    let above = 0;
    return examples.map((some, g) => {
      const height = (some.length + 1.4) * LINE;
      const seen = whole || g === 0 || (above < top + TALLEST + AHEAD && above + height > top - AHEAD);
      above += height;
      return (
        <section key={g}>
          <h4>
            {g ? titleOf(record.groups[g - 1]!, some.length) : `The ${some.length} strongest, each of another context`}
          </h4>
          {seen ? (
            some.map((example, e) => {
              const marked = g === selected[0] && e === selected[1] ? selected[2] : undefined;
              const props = { example, effects, scale, marked, id: `${g},${e}` };
              const json = whole ? (get(wholeKey(record.index, example))?.json as Whole | undefined) : undefined;
              return whole ? <Paragraph {...props} whole={json} /> : <Line {...props} width={width} />;
            })
          ) : (
            <div style={px({ height: some.length * LINE })} />
          )}
        </section>
      );
    });
  }, [record, examples, whole, effects, scale, selected.join(), came, near, top, width]);
  return (
    <div
      class="iw-examples"
      ref={box}
      role="listbox"
      tabIndex={0}
      aria-label={`Examples of feature ${record.index}. Arrow keys go from example to example and from token to token.`}
      onScroll={look}
      onKeyDown={move}
      onMouseOver={(event) => pointing.set(spotOf(event))}
      onMouseLeave={() => pointing.set(null)}
      onClick={(event) => {
        const spot = spotOf(event);
        if (spot) onSelect(spot);
      }}
    >
      {lines}
    </div>
  );
}

function titleOf({ name, low, high, count: size, exact }: Group, shown: number) {
  const range = low === null || high === null ? "" : `, ${short(low)} to ${short(high)}`;
  const drawn = size ? `: ${shown} of ${exact ? "" : "about "}${count(size)} at random` : ": none";
  return `${name} of activations${range}${drawn}`;
}

interface LineProps {
  example: Example;
  effects: boolean;
  scale: Scale;
  marked: number | undefined;
  id: string;
}

/** A value's colours as a style; none where it is nothing or not known. */
function inked(scale: Scale, value: number | null | undefined): string | undefined {
  if (!value) return undefined;
  const { background, color } = css(scale, value);
  return `background:${background};color:${color}`;
}

export const Tokens = ({
  tokens,
  values,
  scale,
  marked,
  from = 0,
  peak,
}: {
  tokens: string[];
  values: ArrayLike<number | null>;
  scale: Scale;
  marked: number | null | undefined;
  from?: number; // the number of the first
  peak?: number; // the number of the one that this is an example of
}) => (
  <>
    {tokens.map((token, i) => (
      <span
        data-token={from + i}
        class={from + i === marked ? "iw-active" : from + i === peak ? "iw-peak" : undefined}
        style={inked(scale, values[i])}
      >
        {token}
      </span>
    ))}
  </>
);

// At least so wide is a token on the screen: what certainly does not fit beside the column is not drawn.
const MARKS = /[\p{M}\p{Cf}]/gu;
const leastWidth = (token: string) => 6 + 6 * token.replace(MARKS, "").length;
function fitting(tokens: string[], from: number, step: 1 | -1, width: number): number {
  let [at, left] = [from, width];
  while (at >= 0 && at < tokens.length && left > 0) {
    left -= leastWidth(tokens[at]!);
    at += step;
  }
  return at;
}

function Line({ example, effects, scale, marked, id, width }: LineProps & { width: number }) {
  const { tokens, position, start } = example;
  const values = effects ? (example.effects ?? []) : example.values;
  const first = fitting(tokens, position - 1, -1, width / 2) + 1;
  const last = fitting(tokens, position, 1, width / 2);
  const part = (from: number, to: number) => (
    <Tokens
      tokens={tokens.slice(from, to)}
      values={values.slice(from, to)}
      from={start + from}
      peak={start + position}
      {...{ scale, marked }}
    />
  );
  return (
    <div class="iw-kwic" data-example={id} role="option" aria-selected={marked !== undefined}>
      <b>{short(example.values[position]!)}</b>
      <span class="iw-kwic-left">
        <span>{part(first, position)}</span>
      </span>
      <span class="iw-kwic-right">{part(position, last)}</span>
    </div>
  );
}

/** The whole context; the activations of all of it where a model can be run, else those around the example. */
function Paragraph({ example, effects, scale, marked, id, whole }: LineProps & { whole: Whole | undefined }) {
  const { start, tokens } = example;
  const kept = effects ? (example.effects ?? []) : example.values;
  const from = whole ? 0 : start;
  const shown = whole?.tokens ?? tokens;
  const values = whole?.values && !effects ? whole.values : shown.map((_, i) => kept[from + i - start] ?? null);
  return (
    <div class="iw-whole" data-example={id} role="option" aria-selected={marked !== undefined}>
      <b>{short(example.values[example.position]!)}</b>
      <span>
        <Tokens tokens={shown} {...{ values, scale, marked, from }} peak={start + example.position} />
        {whole && !whole.values && <small> to know the rest takes a model: store.bind(model, dictionary)</small>}
      </span>
    </div>
  );
}
