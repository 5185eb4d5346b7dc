// Running text of tokens, each on the colour of a value. Any length: only lines near the view are drawn.
import { useId, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { css, type Scale } from "../colour.ts";
import { px } from "../view.tsx";
import type { TokenAt } from "./token.tsx";

const LINE = 21; // CSS pixels of a line of text
const STRIPE = 9; // and of each stripe under it
const BETWEEN = 4; // and between lines
const GUTTER = 86; // for the stripes' names
const AHEAD = 8; // lines drawn beyond the view, and the step in which they move

/** The value of a token: NaN where there is none, undefined while it is not here. */
export type ValueAt = (position: number) => number | undefined;
export type Span = [first: number, last: number] | []; // from first to before last

/** A second value a token, as a stripe of colour under the text. */
export interface Stripe {
  name: string;
  valueAt: ValueAt;
  scale: Scale;
}

interface Props {
  label: string; // for those who cannot see it
  size: number;
  tokenAt: TokenAt;
  valueAt: ValueAt;
  scale: Scale;
  stripes?: Stripe[];
  position: number | null;
  span: Span;
  found?: ReadonlySet<number>;
  width: number;
  lines?: number; // in view at most; more are scrolled
  onHover: (position: number | null) => void;
  /** A click selects a position, or none; a drag and Shift a span that begins or ends there. */
  onSelect: (position: number | null, span: Span) => void;
  /** Which positions are drawn. */
  onWindow?: (first: number, last: number) => void;
}

export function Flow(props: Props) {
  const { label, size, tokenAt, valueAt, scale, stripes = [], position, span, found, width, lines = 14 } = props;
  const id = useId();
  const box = useRef<HTMLDivElement>(null);
  const [font, setFont] = useState("");
  useLayoutEffect(() => setFont(getComputedStyle(box.current!).font), []);
  const gutter = stripes.length ? GUTTER : 0;
  const room = Math.max(80, width - gutter - 16); // less the scroll bar
  const starts = useMemo(() => layOut(size, tokenAt, room, font), [size, tokenAt, room, font]);
  const height = LINE + STRIPE * stripes.length;
  const pitch = height + BETWEEN;

  const [window, setWindow] = useState(0); // the first line in view, in steps
  const first = Math.max(0, Math.min(window, starts.length - 1) - AHEAD);
  const last = Math.min(starts.length, window + 2 * AHEAD + lines);
  const end = (line: number) => starts[line + 1] ?? size;
  const { onWindow } = props;
  useLayoutEffect(() => onWindow?.(starts[first]!, end(last - 1)), [onWindow, starts, first, last]);

  // The token on top stays there when tokens come, or the width changes.
  const top = useRef(0);
  const scrolled = () => {
    const line = Math.floor(box.current!.scrollTop / pitch);
    top.current = starts[Math.min(line, starts.length - 1)]!;
    setWindow(AHEAD * Math.floor(line / AHEAD));
  };
  useLayoutEffect(() => {
    const line = lineOf(starts, top.current);
    if (line !== Math.floor(box.current!.scrollTop / pitch)) box.current!.scrollTop = line * pitch;
    scrolled();
  }, [starts, pitch]);

  const [drag, setDrag] = useState<{ from: number; to: number } | null>(null);
  const chosen = drag && drag.from !== drag.to ? between(drag.from, drag.to) : span;
  const moving = span.length && position !== null ? farEnd(span, position) : position;
  useLayoutEffect(() => {
    if (moving === null) return;
    const { scrollTop, clientHeight } = box.current!;
    const line = lineOf(starts, moving);
    if (line * pitch < scrollTop) box.current!.scrollTop = line * pitch;
    else if ((line + 1) * pitch > scrollTop + clientHeight) box.current!.scrollTop = (line + 1) * pitch - clientHeight;
  }, [moving]);

  const text = useMemo(() => {
    const token = (i: number) => {
      const value = valueAt(i);
      const colour = value === undefined || Number.isNaN(value) ? null : css(scale, value);
      const within = i >= (chosen[0] ?? 1) && i < (chosen[1] ?? 0);
      const classes = [
        value !== undefined && !colour && "iw-missing",
        i === position && "iw-active",
        within && "iw-within",
        found?.has(i) && "iw-found",
      ];
      const background = stripes.length ? striped(colour?.background, stripes, i) : colour?.background;
      return (
        <span
          key={i}
          id={`${id}-${i}`}
          data-at={i}
          role="option"
          aria-selected={within || i === position}
          aria-setsize={size}
          aria-posinset={i + 1}
          class={classes.filter(Boolean).join(" ")}
          style={background && `background:${background};color:${colour?.color ?? "inherit"}`}
        >
          {tokenAt(i)?.text ?? "…"}
        </span>
      );
    };
    return Array.from({ length: last - first }, (_, n) => {
      const line = first + n;
      const positions = Array.from({ length: end(line) - starts[line]! }, (_, i) => starts[line]! + i);
      return (
        <div key={line} class="iw-flow-line" style={px({ top: line * pitch, left: gutter, height })}>
          {positions.map(token)}
        </div>
      );
    });
  }, [starts, first, last, tokenAt, valueAt, scale, stripes, position, chosen[0], chosen[1], found, height]);
  const names = Array.from({ length: gutter && last - first }, (_, n) =>
    stripes.map(({ name }, i) => (
      <small style={px({ top: (first + n) * pitch + LINE + i * STRIPE, height: STRIPE, width: GUTTER - 6 })}>
        {name}
      </small>
    )),
  );

  const at = ({ target }: Event) => {
    const token = (target as Element).closest<HTMLElement>("[data-at]");
    return token ? Number(token.dataset.at) : null;
  };
  const down = (event: PointerEvent) => {
    const i = at(event);
    if (i === null || event.button) return;
    if (event.shiftKey && position !== null) props.onSelect(position, between(position, i));
    else setDrag({ from: i, to: i });
  };
  const over = (event: PointerEvent) => {
    const i = at(event);
    if (i === null) return;
    props.onHover(i);
    if (drag && i !== drag.to) setDrag({ ...drag, to: i });
  };
  const up = () => {
    if (!drag) return;
    const { from, to } = drag;
    setDrag(null);
    if (from !== to) props.onSelect(from, between(from, to));
    else props.onSelect(from === position && !span.length ? null : from, []);
  };
  const press = (event: KeyboardEvent) => {
    if (event.key === "Escape") props.onSelect(null, []);
    const from = moving ?? -1;
    const line = lineOf(starts, Math.max(0, from));
    const vertical = (by: number) => {
      const to = line + by;
      if (to < 0 || to >= starts.length) return from;
      return Math.min(starts[to]! + from - starts[line]!, end(to) - 1);
    };
    const moves: Record<string, () => number> = {
      ArrowLeft: () => from - 1,
      ArrowRight: () => from + 1,
      ArrowUp: () => vertical(-1),
      ArrowDown: () => vertical(1),
      Home: () => 0,
      End: () => size - 1,
    };
    const move = moves[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const to = Math.max(0, Math.min(size - 1, move()));
    if (event.shiftKey && position !== null) props.onSelect(position, to === position ? [] : between(position, to));
    else props.onSelect(to, []);
  };

  const total = starts.length * pitch - BETWEEN;
  return (
    <div
      class="iw-flow"
      ref={box}
      role="listbox"
      aria-label={`${label}. Arrow keys move the selection, Shift extends it.`}
      aria-multiselectable="true"
      aria-activedescendant={moving === null ? undefined : `${id}-${moving}`}
      tabIndex={0}
      style={px({ height: Math.min(total, lines * pitch) + 4 })}
      onScroll={scrolled}
      onKeyDown={press}
      onPointerDown={down}
      onPointerOver={over}
      onPointerUp={up}
      onPointerCancel={() => setDrag(null)}
      onPointerLeave={() => {
        setDrag(null);
        props.onHover(null);
      }}
    >
      <div style={px({ height: total })}>
        {names}
        {text}
      </div>
    </div>
  );
}

const between = (a: number, b: number): Span => [Math.min(a, b), Math.max(a, b) + 1];
/** The end of a span that is not where it began. */
const farEnd = ([first, last]: [number, number], position: number) => (first === position ? last - 1 : first);

/** The background of a token with stripes: its own colour, then theirs, from top to bottom. */
function striped(own: string | undefined, stripes: Stripe[], position: number) {
  const colours = stripes.map(({ valueAt, scale }) => {
    const value = valueAt(position);
    return value === undefined || Number.isNaN(value) ? "transparent" : css(scale, value).background;
  });
  const parts = colours.map((colour, i) => `${colour} ${LINE + i * STRIPE}px ${LINE + (i + 1) * STRIPE - 1}px`);
  return `linear-gradient(${own ?? "transparent"} 0 ${LINE - 1}px,${parts.join()})`;
}

const widths = new Map<string, Map<string, number>>(); // of texts, by font

/** The first position of every line: a token that does not fit begins the next, and so does one after a newline. */
function layOut(size: number, tokenAt: TokenAt, room: number, font: string): number[] {
  const starts = [0];
  if (!font) return starts.length < size ? [0, ...steps(size)] : starts; // before anything can be measured
  const context = document.createElement("canvas").getContext("2d")!;
  context.font = font;
  let known = widths.get(font);
  if (!known) widths.set(font, (known = new Map<string, number>()));
  let x = 0;
  for (let i = 0; i < size; i++) {
    const text = tokenAt(i)?.text ?? "…";
    let width = known.get(text);
    if (width === undefined) known.set(text, (width = context.measureText(text).width + 3));
    if (x > 0 && x + width > room) {
      starts.push(i);
      x = 0;
    }
    x += width;
    if (text.endsWith("↵") && i + 1 < size) {
      starts.push(i + 1);
      x = 0;
    }
  }
  return starts;
}

const steps = (size: number) => Array.from({ length: Math.ceil(size / 16) - 1 }, (_, i) => 16 * (i + 1));

/** The line that a position is on. */
function lineOf(starts: number[], position: number): number {
  let [low, high] = [0, starts.length];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (starts[middle]! <= position) low = middle;
    else high = middle;
  }
  return low;
}
