// The prompt as text, each token shaded by a weight; and the strongest few in order.
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { count, css, format, type Scale } from "../colour.ts";
import { chunksOf, type Line, type Prompt, useTokens } from "./attention.ts";
import { One, type Token, type TokenAt } from "./token.tsx";

const WINDOW = 128; // tokens drawn at once
const PAGE = 48; // the window moves in steps, so that following a pointer redraws colours, not text
const LONG = 12; // characters that may not fit on a narrow line

interface Props {
  prompt: Prompt;
  at: number;
  axis: "query" | "key"; // whose tokens these are
  line: Line | undefined; // a weight a token
  scale: Scale;
  active: number | null; // the token that the weights are from, or to
  marked: number | null;
  found: Set<number>;
  faded: ((token: Token | undefined, position: number) => boolean) | null;
  caption: preact.ComponentChildren;
  onHover: (position: number | null) => void;
  onSelect: (position: number) => void;
}

export function Strip({
  prompt,
  at,
  axis,
  line,
  scale,
  active,
  marked,
  found,
  faded,
  caption,
  onHover,
  onSelect,
}: Props) {
  const size = prompt.shape[axis === "query" ? 2 : 3];
  const centre = marked ?? active ?? size - 1;
  const first = Math.max(0, Math.min(size - WINDOW, PAGE * Math.floor((centre - PAGE) / PAGE)));
  const last = Math.min(size, first + WINDOW);
  const tokens = useTokens(prompt, at, axis, chunksOf(prompt, axis, first, last));
  const box = useRef<HTMLDivElement>(null);

  // Text here; what changes as the pointer moves is set on the elements below, and touches only what differs.
  const texts = useMemo(
    () =>
      Array.from({ length: last - first }, (_, i) => {
        const token = tokens(first + i);
        const text = token?.text ?? "…";
        const classes = [
          text.length > LONG && "iw-long",
          found.has(first + i) && "iw-found",
          faded?.(token, first + i) && "iw-faded",
        ];
        return <span class={classes.filter(Boolean).join(" ")}>{text}</span>;
      }),
    [tokens, first, last, found, faded],
  );
  const spans = () => box.current!.getElementsByTagName("span");
  useLayoutEffect(() => {
    for (const [i, span] of [...spans()].entries()) {
      const weight = line?.weights[first + i];
      const { background, color } = weight === undefined || Number.isNaN(weight) ? BLANK : css(scale, weight);
      if ((painted.get(span) ?? "") === background) continue;
      painted.set(span, background);
      span.style.cssText = background && `background:${background};color:${color}`;
    }
  }, [line, scale, texts]);
  const mark = (position: number | null, name: string) => {
    const span = position === null ? undefined : spans()[position - first];
    span?.classList.add(name);
    return () => span?.classList.remove(name);
  };
  useLayoutEffect(() => mark(active, "iw-active"), [active, texts]);
  useLayoutEffect(() => mark(marked, "iw-marked"), [marked, texts]);

  // A token's tooltip is written when the pointer comes to it, and again as weights do.
  const pointed = useRef<number | null>(null);
  const explain = () => {
    const span = pointed.current === null ? undefined : spans()[pointed.current - first];
    if (span) span.title = tooltip(pointed.current!, tokens, line);
  };
  useLayoutEffect(explain, [line, tokens, first]);
  const position = ({ target }: Event) => {
    const i = [...spans()].indexOf(target as HTMLSpanElement);
    return i < 0 ? null : first + i;
  };
  const over = (event: Event) => {
    const i = position(event);
    if (i === null) return;
    pointed.current = i;
    explain();
    onHover(i);
  };
  const click = (event: Event) => {
    const i = position(event);
    if (i !== null) onSelect(i);
  };
  const leave = () => {
    pointed.current = null;
    onHover(null);
  };
  return (
    <div class="iw-strip">
      <div class="iw-caption">{caption}</div>
      <div class="iw-tokens" ref={box} onMouseOver={over} onMouseLeave={leave} onClick={click}>
        {first > 0 && <small>… {count(first)} before </small>}
        {texts}
        {last < size && <small> … {count(size - last)} after</small>}
      </div>
    </div>
  );
}

const BLANK = { background: "", color: "" };
const painted = new WeakMap<Element, string>(); // the background that a token has

function tooltip(position: number, tokens: TokenAt, line: Line | undefined) {
  const token = tokens(position);
  const weight = line?.weights[position];
  const id = token?.id === undefined ? "" : ` · id ${token.id}`;
  return `${token?.text ?? "…"} · position ${position}${id}${weight === undefined ? "" : ` · ${format(weight)}`}`;
}

/** The strongest weights of a line, as buttons: all there is to see of a long one, and a list for a screen reader. */
export function Strongest({
  prompt,
  at,
  axis,
  line,
  missing,
  onSelect,
}: {
  prompt: Prompt;
  at: number;
  axis: "query" | "key";
  line: Line | undefined;
  missing: boolean;
  onSelect: (position: number) => void;
}) {
  const top = useMemo(() => strongest(line?.weights ?? new Float32Array(), 6), [line]);
  const tokens = useTokens(prompt, at, axis, top);
  return (
    <div class="iw-strongest">
      strongest:{" "}
      {top.map((i) => (
        <button type="button" onClick={() => onSelect(i)}>
          <One token={tokens(i)} position={i} /> {line!.error > 0 && "≈ "}
          {format(line!.weights[i]!)}
        </button>
      ))}
      {!line && (missing ? "not stored in this copy" : "…")}
    </div>
  );
}

function strongest(line: Float32Array, count: number): number[] {
  const top: number[] = [];
  line.forEach((weight, i) => {
    if (!(Math.abs(weight) > 0)) return;
    if (top.length === count && Math.abs(weight) <= Math.abs(line[top[count - 1]!]!)) return;
    const place = top.findIndex((j) => Math.abs(line[j]!) < Math.abs(weight));
    top.splice(place < 0 ? top.length : place, 0, i);
    if (top.length > count) top.pop();
  });
  return top;
}
