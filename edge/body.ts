import { PlatformError } from '../shared/errors.ts';

const MAX_DISCARDED_BYTES = 64 * 1024 * 1024;
const DISCARD_WITHIN_MS = 2000;
const MAX_DEPTH = 100;

/**
 * Reads what is left of a body that was refused, within limits: some platforms lose an answer that
 * comes before the body's end.
 */
export async function discardBody({ body }: Request): Promise<void> {
  if (body === null || body.locked) return;
  const reader = body.getReader();
  const cancel = () => void reader.cancel().catch(() => undefined); // lost already
  const timer = setTimeout(cancel, DISCARD_WITHIN_MS);
  let numBytes = 0;
  try {
    while (numBytes < MAX_DISCARDED_BYTES) {
      const { done, value } = await reader.read();
      if (done) return;
      numBytes += value.length;
    }
    cancel();
  } catch {
    return; // the client went away, and wants no answer
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Reads a request's body as JSON, at most `maxBytes` of it, whatever its headers say.
 *
 * @throws {PlatformError} `unsupported_media_type`, `payload_too_large`, or `invalid_request` for
 *   what is not UTF-8, not JSON or nested too deep
 */
export async function readJson(request: Request, maxBytes: number): Promise<unknown> {
  checkHeaders(request.headers, maxBytes);
  const body = parseJson(decodeUtf8(await readBytes(request, maxBytes)));
  checkDepth(body);
  return body;
}

function checkHeaders(headers: Headers, maxBytes: number): void {
  const contentType = headers.get('content-type') ?? '';
  if (!/^application\/json *(; *charset="?utf-8"? *)?$/i.test(contentType)) {
    const given = contentType === '' ? 'missing' : JSON.stringify(contentType.slice(0, 80));
    const message = `content-type is ${given}; it must be application/json`;
    throw new PlatformError('unsupported_media_type', message);
  }
  const encoding = headers.get('content-encoding') ?? 'identity';
  if (encoding !== 'identity') {
    const message = `content-encoding is ${JSON.stringify(encoding.slice(0, 80))}; only identity is supported`;
    throw new PlatformError('unsupported_media_type', message);
  }
  const numBytes = Number(headers.get('content-length') ?? 0);
  if (numBytes > maxBytes) throw tooLarge(`${numBytes} bytes`, maxBytes);
}

async function readBytes(request: Request, maxBytes: number): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let numBytes = 0;
  for await (const piece of request.body?.values({ preventCancel: true }) ?? []) {
    numBytes += piece.length;
    if (numBytes > maxBytes) throw tooLarge('longer', maxBytes);
    pieces.push(piece);
  }
  const bytes = new Uint8Array(numBytes);
  let offset = 0;
  for (const piece of pieces) {
    bytes.set(piece, offset);
    offset += piece.length;
  }
  return bytes;
}

function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(bytes);
  } catch (cause) {
    throw new PlatformError('invalid_request', 'the body is not valid UTF-8', { cause });
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const reason = cause instanceof SyntaxError ? cause.message : 'unreadable';
    const message = `the body is not valid JSON: ${reason.slice(0, 200)}`;
    throw new PlatformError('invalid_request', message, { cause });
  }
}

/** What is nested without end can be read, but not written down again: that takes a stack. */
function checkDepth(body: unknown): void {
  let level = [body].filter(isContainer);
  for (let depth = 1; level.length > 0; depth += 1) {
    if (depth > MAX_DEPTH) {
      const message = `the body is nested deeper than ${MAX_DEPTH} arrays or objects`;
      throw new PlatformError('invalid_request', message);
    }
    level = level.flatMap((container) => Object.values(container).filter(isContainer));
  }
}

function isContainer(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

function tooLarge(size: string, maxBytes: number): PlatformError {
  const message = `the body is ${size}; the limit is ${maxBytes} bytes`;
  return new PlatformError('payload_too_large', message);
}
