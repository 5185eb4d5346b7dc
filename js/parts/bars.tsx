// Horizontal bars: signed, from zero or one after the other, with intervals, and what each is made of.
import type { ComponentChildren } from "preact";
import { useRef } from "preact/hooks";
import { px } from "../view.tsx";
import { extent, placed } from "./scale.ts";

export interface Bar {
  label: ComponentChildren;
  value: number; // NaN: there is no such part
  from?: number; // where it begins: 0, or in a waterfall where the last one ended
  low?: number; // an interval of the value
  high?: number;
  parts?: number[]; // that add up to it: those above zero are drawn in the upper half, the others in the lower
  strong?: boolean; // a total
  opens?: boolean; // there is more behind it
}

const ROW = 20; // pixels
const BAR = 16; // left for a scroll bar

export function Bars({
  bars,
  width,
  axis,
  label,
  words,
  selected,
  labels = 84,
  onSelect,
  onHover,
}: {
  bars: Bar[];
  width: number;
  axis: string; // what the bars measure, with its unit
  label: string;
  words: (value: number) => string;
  selected: number | null;
  labels?: number; // pixels
  onSelect: (bar: number) => void;
  onHover?: (bar: number | null) => void;
}) {
  const list = useRef<HTMLDivElement>(null);
  const numbers = 58;
  const reach = bars.flatMap(({ from = 0, value, low = value, high = value, parts = [] }) => {
    const above = parts.reduce((sum, part) => sum + Math.max(0, part), 0);
    return [from, from + value, from + low, from + high, from + above].filter((end) => !Number.isNaN(end));
  });
  const [low, high] = extent([reach], true, 0.03);
  const room = Math.max(60, width - labels - numbers - BAR);
  const { at, ticks } = placed({ name: axis, low, high }, 0, room, Math.max(2, Math.floor(room / 70)));
  const box = (a: number, b: number) => px({ left: Math.min(at(a), at(b)), width: Math.max(1, Math.abs(at(b) - at(a))) }); // prettier-ignore
  const move = (event: KeyboardEvent) => {
    const now = selected ?? -1;
    const to = { ArrowDown: now + 1, ArrowUp: now - 1, Home: 0, End: bars.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = Math.max(0, Math.min(bars.length - 1, to));
    onSelect(next);
    list.current!.children[next]?.scrollIntoView({ block: "nearest" });
  };
  return (
    <div class="iw-bars" style={px({ width })}>
      <div class="iw-bars-axis" style={px({ "margin-left": labels, width: room })}>
        {ticks.map(([value, text]) => (
          <span style={px({ left: at(value) })}>{text}</span>
        ))}
        <i>{axis}</i>
      </div>
      <div class="iw-bars-list" ref={list} role="listbox" aria-label={label} tabIndex={0} onKeyDown={move}>
        {bars.map((bar, i) => {
          const { value, from = 0, parts } = bar;
          const end = from + value;
          const interval = bar.low !== undefined && bar.high !== undefined && !Number.isNaN(bar.low);
          return (
            <div
              role="option"
              aria-selected={i === selected}
              class={`iw-bars-row${bar.strong ? " iw-strong" : ""}${bar.opens ? " iw-opens" : ""}`}
              style={px({ height: ROW })}
              onClick={() => onSelect(i)}
              onMouseEnter={() => onHover?.(i)}
              onMouseLeave={() => onHover?.(null)}
            >
              <span class="iw-bars-label" style={px({ width: labels })}>
                {bar.label}
              </span>
              <span class="iw-bars-room" style={px({ width: room })}>
                <u style={px({ left: at(0) })} />
                {Number.isNaN(value) ? (
                  <small>none</small>
                ) : (
                  <>
                    <b class={value < 0 ? "iw-below" : "iw-above"} style={box(from, end)} />
                    {parts && <Parts parts={parts} from={from} box={box} />}
                    {interval && <em style={box(from + bar.low!, from + bar.high!)} />}
                  </>
                )}
              </span>
              <span class="iw-bars-value" style={px({ width: numbers })}>
                {Number.isNaN(value) ? "" : words(value)}
              </span>
            </div>
          );
        })}
      </div>
    </div>
  );
}

/** The parts of a bar, laid end to end: up in the upper half, then down in the lower. */
function Parts({ parts, from, box }: { parts: number[]; from: number; box: (a: number, b: number) => string }) {
  let end = from;
  const laid = [parts.filter((part) => part > 0), parts.filter((part) => part < 0)].flatMap((some) =>
    some.map((part) => {
      const style = box(end, end + part);
      end += part;
      return <s class={part < 0 ? "iw-below" : "iw-above"} style={style} />;
    }),
  );
  return <>{laid}</>;
}
