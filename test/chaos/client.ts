import { integerFrom, type Rng } from '../support/random.ts';
import type { Answer } from './answer.ts';
import { Following, Refusal } from './following.ts';
import type { ChaosRequest, Manner } from './requests.ts';

/** A silence between two events of a stream that its client did not cause. */
export interface Pause {
  readonly startMs: number;
  readonly endMs: number;
}

/** How one request went for its client. */
export interface Outcome {
  readonly requestId: string | null;
  /** `null` too where the client left, or the deadline came before the first token. */
  readonly answer: Answer | null;
  /** Why there is no answer, though there should be. */
  readonly failure: string | null;
  readonly numEvents: number;
  /** Events that never came though later ones did, and events that came twice. */
  readonly numLost: number;
  readonly numDuplicated: number;
  readonly numReconnects: number;
  readonly pauses: readonly Pause[];
}

export interface ClientOptions {
  readonly edgeUrls: readonly string[];
  readonly rng: Rng;
  readonly manner: Manner;
  /** Chance, after each piece of a stream, that the client drops its connection and comes back. */
  readonly dropChance: number;
  /** After this long without an answer the request has failed. */
  readonly patienceMs: number;
  /** Called with every event of a stream. */
  readonly onEvent?: () => void;
}

/**
 * Sends a request and sees it through, as a good client does: retries with one key, resumes
 * streams.
 */
export async function follow(
  { path, body }: ChaosRequest,
  key: string,
  options: ClientOptions,
): Promise<Outcome> {
  const request = { path, body: { ...body, ...wishesOf(options) } };
  const following = new Following(request, key, options);
  const deadlineMs = performance.now() + options.patienceMs;
  while (performance.now() < deadlineMs) {
    const signal = AbortSignal.timeout(Math.max(1, Math.ceil(deadlineMs - performance.now())));
    try {
      if (await following.attempt(signal)) return following.outcome(null);
    } catch (error) {
      if (error instanceof Refusal) return following.outcome(error.message);
      following.note(error);
    }
    await pause(integerFrom(options.rng, 20, 200));
  }
  const { lastError } = following;
  return following.outcome(`no answer within ${options.patienceMs} ms; last: ${lastError}`);
}

/** What a client of this manner asks for beside the rest. */
function wishesOf({ manner, rng }: ClientOptions): Record<string, unknown> {
  if (manner === 'deadline') return { timeout: integerFrom(rng, 3, 40) / 10 };
  return manner === 'endless' ? { max_tokens: null } : {};
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
