// What surrounds every view: what it is, how to read it, what one can set, and whether it is live.
import type { ComponentChildren } from "preact";
import { NARROW, useWidth } from "../view.tsx";
import { Live } from "./live.tsx";

export function Frame({
  name,
  title,
  about,
  controls,
  status,
  children,
}: {
  name: string; // the view's, for the style sheet
  title: string;
  about: ComponentChildren; // how to read it, in a sentence or two
  controls?: ComponentChildren;
  status: ComponentChildren; // what is pointed at or selected, in words and exact numbers
  children: ComponentChildren;
}) {
  const narrow = useWidth() < NARROW;
  return (
    <section class={`iw-${name}${narrow ? " iw-narrow" : ""}`} aria-label={title}>
      <header class="iw-row">
        <strong class="iw-title">{title}</strong>
        <span class="iw-about">{about}</span>
      </header>
      {controls && <div class="iw-row">{controls}</div>}
      {children}
      <div class="iw-status" role="status">
        {status}
        <Live />
      </div>
    </section>
  );
}
