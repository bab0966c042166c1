import { integerFrom, pickFrom, type Rng } from '../support/random.ts';
import { type Answer, answerOfBody, answerOfFrames, type Frame } from './answer.ts';
import type { ChaosRequest } from './requests.ts';

/** How one request went for its client. */
export interface Outcome {
  readonly answer: Answer | null;
  /** Why there is no answer. */
  readonly failure: string | null;
  readonly numEvents: number;
  /** Events that never came though later ones did, and events that came twice. */
  readonly numLost: number;
  readonly numDuplicated: number;
  readonly numReconnects: number;
  /** Longest silence between two events of a stream. */
  readonly longestPauseMs: number;
}

export interface ClientOptions {
  readonly edgeUrls: readonly string[];
  readonly rng: Rng;
  /** Chance, after each piece of a stream, that the client drops its connection and comes back. */
  readonly dropChance: number;
  /** After this long without an answer the request has failed. */
  readonly patienceMs: number;
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
  const state = new Following(options);
  const deadlineMs = performance.now() + options.patienceMs;
  while (performance.now() < deadlineMs) {
    const signal = AbortSignal.timeout(Math.max(1, Math.ceil(deadlineMs - performance.now())));
    try {
      const answer = await state.attempt({ path, body }, key, signal);
      if (answer !== null) return state.outcome(answer, null);
    } catch (error) {
      if (error instanceof Refusal) return state.outcome(null, error.message);
      state.note(error);
    }
    await pause(integerFrom(options.rng, 20, 200));
  }
  return state.outcome(null, `no answer within ${options.patienceMs} ms; last: ${state.lastError}`);
}

/** An answer that a retry would not change. */
class Refusal extends Error {}

class Following {
  readonly #options: ClientOptions;
  readonly #frames: Frame[] = [];
  #requestId: string | null = null;
  #lastId: string | null = null;
  #lastSeq = -1;
  #numLost = 0;
  #numDuplicated = 0;
  #numAttempts = 0;
  #longestPauseMs = 0;
  #lastMs: number | null = null;
  lastError = 'none';

  constructor(options: ClientOptions) {
    this.#options = options;
  }

  note(error: unknown): void {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    this.lastError = cause instanceof Error ? cause.message : String(cause);
  }

  outcome(answer: Answer | null, failure: string | null): Outcome {
    return {
      answer,
      failure,
      numEvents: this.#frames.length,
      numLost: this.#numLost,
      numDuplicated: this.#numDuplicated,
      numReconnects: this.#numAttempts - 1,
      longestPauseMs: this.#longestPauseMs,
    };
  }

  /** @returns `null` when it has to be tried again */
  async attempt(request: ChaosRequest, key: string, signal: AbortSignal): Promise<Answer | null> {
    this.#numAttempts += 1;
    const response = await this.#send(request, key, signal);
    if (response.status === 503 || response.status === 429) {
      const retryAfter = response.headers.get('retry-after');
      if (retryAfter === null) throw new Refusal(`${response.status} without Retry-After`);
      this.lastError = `${response.status} ${await response.text()}`;
      return null;
    }
    if (!response.ok) throw new Refusal(`${response.status} ${await response.text()}`);
    this.#requestId = response.headers.get('x-request-id');
    if (!request.body.stream) return answerOfBody(await response.json());
    return await this.#read(response);
  }

  #send({ path, body }: ChaosRequest, key: string, signal: AbortSignal): Promise<Response> {
    const url = pickFrom(this.#options.rng, this.#options.edgeUrls);
    if (this.#lastId !== null && this.#requestId !== null) {
      const headers = { 'last-event-id': this.#lastId };
      return fetch(`${url}/v1/requests/${this.#requestId}/events`, { headers, signal });
    }
    return fetch(`${url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': key },
      body: JSON.stringify(body),
      signal,
    });
  }

  /** Reads a stream to its end, or until it breaks or the client drops it. */
  async #read(response: Response): Promise<Answer | null> {
    const reader = response.body!.getReader();
    const decoder = new TextDecoder();
    let rest = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return null; // ended without [DONE]: its edge died
      rest += decoder.decode(value, { stream: true });
      const blocks = rest.split('\n\n');
      rest = blocks.pop() ?? '';
      for (const block of blocks) this.#take(block);
      const last = this.#frames.at(-1);
      if (last?.data === '[DONE]') return answerOfFrames(this.#frames);
      if (last?.data.startsWith('{"error"')) {
        if (last.id !== null) throw new Refusal(last.data);
        this.#frames.pop(); // of this connection, not of the request
        this.lastError = last.data;
        return null;
      }
      if (this.#options.rng() >= this.#options.dropChance) continue;
      await reader.cancel();
      return null;
    }
  }

  #take(block: string): void {
    const lines = block.split('\n').filter((line) => !line.startsWith(':'));
    const fieldOf = (name: string) =>
      lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2) ?? null;
    const [id, data] = [fieldOf('id'), fieldOf('data')];
    if (data === null) return;
    const nowMs = performance.now();
    if (this.#lastMs !== null) {
      this.#longestPauseMs = Math.max(this.#longestPauseMs, nowMs - this.#lastMs);
    }
    this.#lastMs = nowMs;
    if (id !== null) this.#count(id);
    this.#frames.push({ id, data });
  }

  /**
   * Ids count from 0 without a gap, over all claims; a chat's first chunks come before them, with
   * epoch 0.
   */
  #count(id: string): void {
    this.#lastId = id;
    const [epoch, seq] = id.split('-').map(Number);
    if (epoch === 0 || seq === undefined || seq === this.#lastSeq) return;
    if (seq < this.#lastSeq) this.#numDuplicated += 1;
    else this.#numLost += seq - this.#lastSeq - 1;
    this.#lastSeq = seq;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
