// A sum as a list of its terms, each a bar to the left or right of nothing; terms that are sums themselves open.
import { useState } from "preact/hooks";
import { format } from "../colour.ts";

export interface Term {
  label: string;
  value: number;
  parts?: Term[]; // which add up to it
}

export function Contributions({ terms, label }: { terms: Term[]; label: string }) {
  const [opened, setOpened] = useState<ReadonlySet<string>>(new Set());
  const rows = terms.flatMap((term) => [term, ...(term.parts && opened.has(term.label) ? term.parts : [])]);
  const most = Math.max(...rows.map(({ value }) => Math.abs(value)), 1e-9);
  const toggle = (name: string) => {
    const next = new Set(opened);
    if (!next.delete(name)) next.add(name);
    setOpened(next);
  };
  return (
    <div class="iw-contributions" role="group" aria-label={label}>
      <table>
        <tbody>
          {rows.map((term) => (
            <tr class={terms.includes(term) ? "" : "iw-part"}>
              <td>
                {term.parts?.length ? (
                  <button
                    type="button"
                    aria-expanded={opened.has(term.label)}
                    title="What it is the sum of"
                    onClick={() => toggle(term.label)}
                  >
                    {opened.has(term.label) ? "▾" : "▸"} {term.label}
                  </button>
                ) : (
                  term.label
                )}
              </td>
              <td class="iw-signed">
                <i
                  class={term.value < 0 ? "iw-negative" : ""}
                  style={{
                    width: `${(50 * Math.abs(term.value)) / most}%`,
                    [term.value < 0 ? "right" : "left"]: "50%",
                  }}
                />
              </td>
              <td class="iw-number">
                {term.value > 0 && "+"}
                {format(term.value)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
