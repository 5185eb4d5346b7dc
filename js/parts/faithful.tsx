// What a circuit does alone, and what the model does without it, between the whole model and none of it.
import { format } from "../colour.ts";

interface Side {
  base: number;
  value: number;
  low: number | null;
  high: number | null;
  goal: number;
  recovered: number | null;
  exceeds: number | null; // the share of random circuits that did less
  control: number[];
}

export interface Faithful {
  what: "nodes" | "edges";
  metric: string;
  how: string;
  size: number;
  of: number;
  n: number;
  kept: Side;
  removed: Side;
}

export function FaithfulTable({ found }: { found: Faithful }) {
  const { kept, removed, size, of, n, metric, how } = found;
  const sides = [kept, removed];
  const all = sides.flatMap(({ value, low, high, base, goal, control }) => [value, low, high, base, goal, ...control]);
  const known = all.filter((each) => each !== null);
  const [least, most] = [Math.min(...known), Math.max(...known)];
  const at = (value: number) => `${2 + (96 * (value - least)) / (most - least || 1)}%`; // marks have a width
  const parts = found.what === "nodes" ? "heads and MLPs" : "edges";
  const row = (name: string, side: Side, goal: string) => (
    <tr>
      <th scope="row">{name}</th>
      <td>
        <b>{format(side.value)}</b>
        {side.low !== null && ` (95 % ${format(side.low)} … ${format(side.high!)})`}
      </td>
      <td>{side.recovered === null ? "no gap" : `${(100 * side.recovered).toFixed(0)} % ${goal}`}</td>
      <td>
        <span class="iw-circuit-track" aria-hidden="true">
          <i class="iw-none" style={{ left: at(kept.base) }} />
          <i class="iw-whole" style={{ left: at(kept.goal) }} />
          {side.control.map((value) => (
            <i class="iw-random" style={{ left: at(value) }} />
          ))}
          {side.low !== null && (
            <i class="iw-span" style={{ left: at(side.low), right: `calc(100% - ${at(side.high!)})` }} />
          )}
          <i class="iw-value" style={{ left: at(side.value) }} />
        </span>
      </td>
      <td>
        {side.control.length > 0 && (
          <>
            {format(side.control.reduce((sum, value) => sum + value, 0) / side.control.length)}
            <small> mean of {side.control.length}</small>
          </>
        )}
      </td>
    </tr>
  );
  return (
    <div class="iw-circuit-test" role="group" aria-label="What the circuit is worth">
      <div>
        <b>
          {size} of {of} {parts}
        </b>
        , {n} prompts; {how}. Measured: {metric}.
      </div>
      <table>
        <thead>
          <tr>
            <th />
            <th>metric</th>
            <th>share of the way</th>
            <th>
              <span class="iw-circuit-ends">
                <small>{format(least)}</small>
                <small>{format(most)}</small>
              </span>
            </th>
            <th>random {parts}</th>
          </tr>
        </thead>
        <tbody>
          {row("the circuit alone", kept, "to the whole model")}
          {row("the model without it", removed, "to all ablated")}
        </tbody>
      </table>
      <small>
        <i class="iw-whole" /> the whole model {format(kept.goal)} <i class="iw-none" /> all ablated {format(kept.base)}{" "}
        <i class="iw-value" /> the circuit, with its interval <i class="iw-random" /> random circuits of this size. Wang
        et al. 2022 §4: faithful if the first row is near the whole model, complete if the second is near none.
      </small>
    </div>
  );
}
