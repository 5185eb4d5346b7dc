// What an intervention did: the next token's probabilities without and with it, side by side.
import { format } from "../colour.ts";

export interface Outcome {
  how: string;
  position: number;
  tokens: string[];
  before: number[];
  after: number[];
  kl: number;
}

const percent = (p: number) => `${(100 * p).toFixed(p < 0.0995 ? 1 : 0)} %`;

export function OutcomeTable({ outcome, names = ["before", "after"] }: { outcome: Outcome; names?: [string, string] }) {
  const { tokens, before, after, kl, how } = outcome;
  const most = Math.max(...before, ...after);
  const bar = (p: number, which: string) => (
    <td class="iw-bar">
      <i class={`iw-${which}`} style={{ width: `${(100 * p) / most}%` }} />
      <span>{percent(p)}</span>
    </td>
  );
  return (
    <div class="iw-outcome" role="group" aria-label={`What ${how} did to the next token`}>
      <div>
        <b>{how}</b>{" "}
        <small>
          KL({names[0]} ‖ {names[1]}) = {format(kl)} nats; the next token:
        </small>
      </div>
      <table>
        <thead>
          <tr>
            <th>token</th>
            <th>{names[0]}</th>
            <th>{names[1]}</th>
            <th>change</th>
          </tr>
        </thead>
        <tbody>
          {tokens.slice(0, 8).map((token, i) => (
            <tr>
              <td>
                <bdi class="iw-token">{token}</bdi>
              </td>
              {bar(before[i]!, "before")}
              {bar(after[i]!, "after")}
              <td>{signed(100 * (after[i]! - before[i]!))}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

const signed = (points: number) => `${points > 0 ? "+" : points < 0 ? "−" : ""}${Math.abs(points).toFixed(1)}`;
