// Small controls, named and reachable by keyboard.

/** For what has keys of its own: JupyterLab's command mode would take the arrows and letters meant for it. */
export const OWN_KEYS = { "data-lm-suppress-shortcuts": "true" };

export function Select<T extends string | number>({
  label,
  value,
  options,
  onChange,
}: {
  label: string;
  value: T;
  options: [value: T, name: string][];
  onChange: (value: T) => void;
}) {
  return (
    <label>
      {label}{" "}
      <select {...OWN_KEYS} onChange={(event) => onChange(options[event.currentTarget.selectedIndex]![0])}>
        {options.map(([option, name]) => (
          <option selected={option === value}>{name}</option>
        ))}
      </select>
    </label>
  );
}

export function Choice<T extends string>({
  label,
  value,
  options,
  names = options,
  onChange,
}: {
  label: string;
  value: T;
  options: readonly T[];
  names?: readonly string[];
  onChange: (value: T) => void;
}) {
  return (
    <span class="iw-group" role="group" aria-label={label}>
      <span>{label}</span>
      {options.map((option, i) => (
        <button type="button" aria-pressed={option === value} onClick={() => onChange(option)}>
          {names[i]}
        </button>
      ))}
    </span>
  );
}

export function Toggle({
  label,
  title,
  value,
  onChange,
}: {
  label: string;
  title?: string;
  value: boolean;
  onChange: (value: boolean) => void;
}) {
  return (
    <label title={title}>
      <input type="checkbox" checked={value} onChange={(event) => onChange(event.currentTarget.checked)} /> {label}
    </label>
  );
}
