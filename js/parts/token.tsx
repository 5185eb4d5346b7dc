// Tokens: their texts, which come in chunks, and one of them in running text.
import { useCallback } from "preact/hooks";
import { useTiles } from "../view.tsx";

export interface Token {
  text: string; // as shown: see interpwidgets/tokens.py
  id?: number | undefined;
  special: boolean;
}
export type TokenAt = (position: number) => Token | undefined;

interface TokensTile {
  text: string[];
  ids: number[] | null;
  special: number[];
}

const CHUNK = 1024; // as in views/tile.py
const specials = new WeakMap<object, Set<number>>();

/** The key of a chunk of a prompt's tokens, for views that have one list of tokens a prompt. */
export const tokensKey = (prompt: number, chunk: number) => JSON.stringify({ what: "tokens", prompt, chunk });

/** The tokens of a prompt from one position to another. */
export function usePromptTokens(prompt: number, first: number, last: number): TokenAt {
  const chunks = Array.from({ length: Math.ceil(last / CHUNK) }, (_, i) => i * CHUNK);
  const wanted = chunks.slice(Math.max(0, Math.floor(first / CHUNK)));
  return useTokenTiles((chunk) => tokensKey(prompt, chunk), CHUNK, wanted);
}

/** The tokens at some positions, and around them; those not here yet are undefined. */
export function useTokenTiles(key: (chunk: number) => string, size: number, positions: number[]): TokenAt {
  const wanted = [...new Set(positions.map((position) => Math.floor(position / size)))].map(key);
  const { get, came } = useTiles(wanted);
  const at: TokenAt = (position) => {
    const tile = get(key(Math.floor(position / size)))?.json as TokensTile | undefined;
    if (!tile) return undefined;
    let special = specials.get(tile);
    if (!special) specials.set(tile, (special = new Set(tile.special)));
    const i = position % size;
    return { text: tile.text[i]!, id: tile.ids?.[i], special: special.has(i) };
  };
  return useCallback(at, [wanted.join("\n"), came]);
}

/** One token: its text and its position. */
export const One = ({ token, position }: { token: Token | undefined; position: number }) => (
  <>
    <bdi class="iw-token">{token?.text ?? "…"}</bdi>
    <sub>{position}</sub>
  </>
);
