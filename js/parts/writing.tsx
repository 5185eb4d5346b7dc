// A text to write: what is written is read once the keys rest.
import { useEffect, useRef, useState } from "preact/hooks";

const REST = 40; // ms without a key

/** The text, as long as it is being written; what Python says it is, otherwise. */
export function Writing({
  label,
  text,
  live,
  onText,
}: {
  label: string;
  text: string;
  live: boolean;
  onText: (text: string) => void;
}) {
  const [own, setOwn] = useState<string | null>(null);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const shown = own ?? text;
  return (
    <textarea
      aria-label={label}
      rows={Math.min(8, Math.max(2, shown.split("\n").length))}
      value={shown}
      readOnly={!live}
      spellcheck={false}
      onInput={(event) => {
        const written = event.currentTarget.value;
        setOwn(written);
        clearTimeout(timer.current);
        timer.current = setTimeout(() => onText(written), REST);
      }}
      onBlur={() => {
        clearTimeout(timer.current);
        if (own !== null && own !== text) onText(own);
        setOwn(null);
      }}
    />
  );
}
