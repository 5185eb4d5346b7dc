// Pins of nodes, names given to them, and groups of those pinned.
import { useEffect, useState } from "preact/hooks";
import type { Box } from "./graph.ts";

export interface Named {
  pinned: string[];
  supernodes: string[][];
  node_labels: Record<string, string>;
}

export function Naming({
  traits,
  set,
  selected,
  name,
}: {
  traits: Named;
  set: (some: Partial<Named>) => void;
  selected: Box | undefined;
  name: string;
}) {
  // prettier-ignore
  const { pinned, supernodes, node_labels } = traits;
  const [label, setLabel] = useState("");
  const [renamed, setRenamed] = useState<string | null>(null);
  const id = selected && !selected.group ? selected.node.id : undefined;
  const held = id !== undefined && pinned.includes(id);
  useEffect(() => setRenamed(null), [id]);
  const rename = () => {
    if (id === undefined || renamed === null) return;
    const { [id]: _, ...others } = node_labels;
    set({ node_labels: renamed.trim() ? { ...others, [id]: renamed.trim() } : others });
    setRenamed(null);
  };
  const free = pinned.filter((each) => !supernodes.some((group) => group.slice(1).includes(each)));
  const group = (event: Event) => {
    event.preventDefault();
    const taken = supernodes.map(([each]) => each);
    if (label.trim() && !taken.includes(label.trim())) set({ supernodes: [...supernodes, [label.trim(), ...free]] });
    setLabel("");
  };
  return (
    <div class="iw-row iw-circuit-naming">
      {id !== undefined && (
        <>
          <button
            type="button"
            aria-pressed={held}
            onClick={() => set({ pinned: held ? pinned.filter((each) => each !== id) : [...pinned, id] })}
          >
            {held ? "unpin" : "pin"}
          </button>
          <form
            onSubmit={(event) => {
              event.preventDefault();
              rename();
            }}
          >
            <label>
              name{" "}
              <input
                value={renamed ?? name}
                onInput={(event) => setRenamed(event.currentTarget.value)}
                onBlur={rename}
              />
            </label>
          </form>
        </>
      )}
      {free.length > 1 && (
        <form onSubmit={group}>
          <label>
            group the {free.length} pinned as{" "}
            <input value={label} placeholder="name" onInput={(event) => setLabel(event.currentTarget.value)} />
          </label>{" "}
          <button type="submit">group</button>
        </form>
      )}
      {pinned.length > 0 && (
        <button type="button" onClick={() => set({ pinned: [] })}>
          unpin all {pinned.length}
        </button>
      )}
      {supernodes.map((one) => (
        <button
          type="button"
          onClick={() => set({ supernodes: supernodes.filter((each) => each !== one) })}
          title="Take this group apart"
        >
          <bdi>{one[0]}</bdi> ({one.length - 1}) ×
        </button>
      ))}
    </div>
  );
}
