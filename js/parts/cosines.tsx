// A matrix of cosines between items.
import { useMemo, useState } from "preact/hooks";
import { count, format, type Scale } from "../colour.ts";
import type { Tile } from "../tiles.ts";
import { Grid, type GridCell } from "./grid.tsx";
import { Legend } from "./legend.tsx";

export function Cosines({
  cosine,
  items,
  feature,
  width,
  dark,
  label,
  onSelect,
  onHover,
}: {
  cosine: Tile & { items: number[] }; // [item, item], and which items these are
  items: number; // of how many
  feature: number | null; // the item selected
  width: number;
  dark: boolean;
  label: (item: number) => string;
  onSelect: (item: number) => void;
  onHover: (item: number | null) => void;
}) {
  const [cell, setCell] = useState<GridCell | null>(null);
  const size = cosine.items.length;
  const value = useMemo(() => (row: number, column: number) => cosine.data[row * size + column]!, [cosine]);
  const scale = useMemo<Scale>(() => ({ kind: "linear", low: 0, high: 1, floor: 0, signed: true, dark }), [dark]);
  const place = feature === null ? -1 : cosine.items.indexOf(feature);
  const name = (i: number) => label(cosine.items[i]!);
  return (
    <>
      <Grid
        rows={size}
        columns={size}
        value={value}
        scale={scale}
        rowLabel={name}
        columnLabel={name}
        selected={place < 0 ? null : { row: place, column: place }}
        width={width}
        labelWidth={72}
        cellWidth={[1, 34]}
        axes={["item", "item →"]}
        label={`Cosines of ${count(size)} items`}
        onSelect={({ row, column }) => onSelect(cosine.items[row === place ? column : row]!)}
        onHover={(next) => {
          setCell(next);
          onHover(next && cosine.items[next.row]!);
        }}
      />
      <div class="iw-row">
        {cell ? (
          <span>
            cosine of <bdi>{name(cell.row)}</bdi> and <bdi>{name(cell.column)}</bdi>:{" "}
            <b>{format(value(cell.row, cell.column))}</b>
          </span>
        ) : (
          <small>
            {size < items
              ? `${count(size)} of ${count(items)} items: ${place < 0 ? "the first" : "those nearest to the one selected"}`
              : "all items"}
          </small>
        )}
      </div>
      <Legend scale={scale} what="cosine" />
    </>
  );
}
