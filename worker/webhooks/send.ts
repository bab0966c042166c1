import { type IncomingMessage, request as requestByHttp } from 'node:http';
import { request as requestByHttps } from 'node:https';
import type { LookupFunction } from 'node:net';
import { type Address, type Resolve, toTarget } from './target.ts';

/** What became of one attempt to hand a body to a receiver. */
export interface Outcome {
  /** `null` when there was no answer. */
  readonly status: number | null;
  /** Why there was none; `null` when there was one. */
  readonly error: string | null;
  /** The beginning of its body. */
  readonly answer: string;
  readonly retryAfter: string | null;
  readonly durationMs: number;
}

export interface SendOptions {
  readonly resolve: Resolve;
  readonly isInsecureAllowed: boolean;
  /** For the whole exchange, look-up included. */
  readonly timeoutMs: number;
  /** Certificates to trust beside the well-known ones. */
  readonly ca?: string;
}

export interface Message {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Bytes of an answer that are read. */
const MAX_ANSWER_BYTES = 4096;
/** Once its status is known, the body of an answer gets no longer. */
const BODY_WITHIN_MS = 2000;

/**
 * Posts `message` once, to an address that was checked and to no other; follows nothing. Never
 * throws.
 */
export async function send(message: Message, options: SendOptions): Promise<Outcome> {
  const startMs = performance.now();
  const signal = AbortSignal.timeout(options.timeoutMs);
  const ended = (part: Partial<Outcome>): Outcome => {
    const durationMs = Math.round(performance.now() - startMs);
    return { status: null, error: null, answer: '', retryAfter: null, ...part, durationMs };
  };
  try {
    const target = await withinSignal(toTarget(message.url, options), signal);
    if (target.type !== 'allowed') return ended({ error: `${target.type}: ${target.reason}` });
    const { url, addresses } = target;
    const response = await post(url, addresses, message, { ...options, signal });
    const answer = await readBeginning(response);
    const retryAfter = response.headers['retry-after'] ?? null;
    return ended({ status: response.statusCode ?? null, answer, retryAfter });
  } catch (error) {
    return ended({ error: signal.aborted ? `no answer in ${options.timeoutMs} ms` : say(error) });
  }
}

/** On a connection of its own, looked up nowhere but in `addresses`. */
function post(
  url: URL,
  addresses: readonly Address[],
  { headers, body }: Message,
  { signal, ca }: { readonly signal: AbortSignal; readonly ca?: string },
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const options = {
      method: 'POST',
      agent: false,
      lookup: lookupIn(addresses),
      signal,
      headers: {
        'content-type': 'application/json',
        'user-agent': 'rivulet-webhooks',
        ...headers,
        'content-length': Buffer.byteLength(body),
      },
    } as const;
    const request =
      url.protocol === 'https:'
        ? requestByHttps(url, { ...options, ...(ca !== undefined && { ca }) }, resolve)
        : requestByHttp(url, options, resolve);
    request.on('error', reject);
    request.end(body);
  });
}

/** A name service that knows these addresses and nothing else. Literal ones are never looked up. */
function lookupIn(addresses: readonly Address[]): LookupFunction {
  return (_hostname, { all }, callback) => {
    const [first] = addresses;
    if (all) callback(null, [...addresses]);
    else if (first === undefined) callback(new Error('no address'), '');
    else callback(null, first.address, first.family);
  };
}

/** Its first bytes as text; the connection is closed then, or when the rest takes too long. */
async function readBeginning(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let numBytes = 0;
  const timer = setTimeout(() => response.destroy(), BODY_WITHIN_MS);
  try {
    for await (const chunk of response) {
      chunks.push(chunk);
      numBytes += chunk.length;
      if (numBytes >= MAX_ANSWER_BYTES) break;
    }
  } catch {
    // The status is what counts, and it is known.
  } finally {
    clearTimeout(timer);
    response.destroy();
  }
  return Buffer.concat(chunks).subarray(0, MAX_ANSWER_BYTES).toString();
}

function withinSignal<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    promise.then(resolve, reject);
  });
}

function say(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(say).join('; ');
  return error instanceof Error ? error.message || error.name : String(error);
}
