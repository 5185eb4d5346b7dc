// How numbers go from layer to layer: one line that matters, the others faint.
import { format } from "../colour.ts";

export interface Course {
  name: string;
  values: number[]; // one a layer
}

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [300, 150, 44, 26, 8];

export function Trajectory({
  courses,
  main,
  layers,
  layer,
  what,
  onSelect,
}: {
  courses: Course[];
  main: number; // the line that matters
  layers: number[];
  layer: number;
  what: string;
  onSelect: (layer: number) => void;
}) {
  const shown = courses[main];
  const most = Math.max(...(shown?.values ?? [1]), 1e-9); // others may leave the frame
  const step = (WIDTH - LEFT - 10) / Math.max(1, layers.length - 1);
  const x = (i: number) => LEFT + i * step;
  const y = (value: number) => TOP + (1 - value / most) * (HEIGHT - TOP - BOTTOM);
  const path = ({ values }: Course) => values.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  const at = Math.max(0, layers.indexOf(layer));
  const every = Math.ceil(layers.length / 12);
  const pick = (event: MouseEvent) => {
    const box = (event.currentTarget as Element).getBoundingClientRect();
    const i = Math.round((((event.clientX - box.left) / box.width) * WIDTH - LEFT) / step);
    onSelect(layers[Math.max(0, Math.min(layers.length - 1, i))]!);
  };
  return (
    <svg
      class="iw-trajectory"
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      role="img"
      aria-label={
        shown && `${what}: ${layers.map((each, i) => `layer ${each} ${format(shown.values[i]!)}`).join(", ")}`
      }
      onClick={pick}
    >
      <line class="iw-rule" x1={x(at)} x2={x(at)} y1={TOP} y2={HEIGHT - BOTTOM} />
      <polyline
        class="iw-frame"
        points={`${LEFT},${TOP} ${LEFT},${HEIGHT - BOTTOM} ${WIDTH - 10},${HEIGHT - BOTTOM}`}
      />
      <svg
        x="0"
        y={TOP}
        width={WIDTH}
        height={HEIGHT - TOP - BOTTOM}
        viewBox={`0 ${TOP} ${WIDTH} ${HEIGHT - TOP - BOTTOM}`}
      >
        {courses.map((course, i) => i !== main && <polyline class="iw-other" points={path(course)} />)}
      </svg>
      {shown && <polyline class="iw-course" points={path(shown)} />}
      {shown && <circle class="iw-here" cx={x(at)} cy={y(shown.values[at]!)} r="3.5" />}
      <text x={LEFT - 4} y={TOP + 4} text-anchor="end">
        {format(most)}
      </text>
      <text x={LEFT - 4} y={HEIGHT - BOTTOM + 3} text-anchor="end">
        0
      </text>
      {layers.map(
        (each, i) =>
          i % every === 0 && (
            <text x={x(i)} y={HEIGHT - BOTTOM + 12} text-anchor="middle">
              {each}
            </text>
          ),
      )}
      <text x={WIDTH - 10} y={HEIGHT - 2} text-anchor="end">
        layer →
      </text>
    </svg>
  );
}
