/** What the `Content-Disposition` of a form's part names; `null` for what it does not. */
export interface Disposition {
  readonly name: string | null;
  readonly filename: string | null;
}

const PARAMETER = /;\s*([^\s=;"]+)\s*=\s*(?:"((?:\\.|[^"\\])*)"|([^;]*))/gsu;

/** What the fetch standard writes for characters that would end a name or its line. */
const ESCAPES: Readonly<Record<string, string>> = { '%22': '"', '%0D': '\r', '%0A': '\n' };

/**
 * Reads names as browsers, `fetch` and curl write them: as they are, in UTF-8, with `%22`, `%0D`
 * and `%0A` or a backslash for what would not fit. One in `filename*` (RFC 5987) goes first.
 */
export function parseDisposition(header: string): Disposition {
  const values = new Map<string, string>();
  for (const [, name = '', quoted, bare = ''] of header.matchAll(PARAMETER)) {
    values.set(name.toLowerCase(), quoted === undefined ? bare.trim() : unquote(quoted));
  }
  const extended = decodeExtended(values.get('filename*'));
  return { name: values.get('name') ?? null, filename: extended ?? values.get('filename') ?? null };
}

function unquote(quoted: string): string {
  return quoted
    .replace(/\\(["\\])/g, '$1')
    .replace(/%(?:22|0D|0A)/gi, (text) => ESCAPES[text.toUpperCase()] ?? text);
}

/** @param text `UTF-8''` and a name with its bytes as `%XX`; `null` when it is something else */
function decodeExtended(text: string | undefined): string | null {
  const encoded = /^utf-8'[^']*'(.*)$/is.exec(text ?? '')?.[1];
  if (encoded === undefined) return null;
  try {
    return decodeURIComponent(encoded);
  } catch {
    return null; // beside it, there may be a plain one
  }
}
