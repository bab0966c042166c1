import { integerFrom, pickFrom } from '../support/random.ts';
import { type Answer, answerOfBody, answerOfFrames, type Frame } from './answer.ts';
import type { ClientOptions, Outcome, Pause } from './client.ts';
import type { ChaosRequest } from './requests.ts';

/** An answer that a retry would not change. */
export class Refusal extends Error {}

/** Silences shorter than this are steps of a busy machine. */
const MIN_PAUSE_MS = 250;
/** Chance that a client gives up on a plain answer, once, and asks again. */
const PLAIN_DROP_CHANCE = 0.2;

/** One request of one client, over all of its connections. */
export class Following {
  readonly #request: ChaosRequest;
  readonly #key: string;
  readonly #options: ClientOptions;
  readonly #frames: Frame[] = [];
  readonly #pauses: Pause[] = [];
  /** Events after which the client cancels or leaves. */
  readonly #numWanted: number;
  /** Time after which it gives up on its first plain answer. */
  #dropAfterMs: number | null;
  #answer: Answer | null = null;
  #requestId: string | null = null;
  #lastId: string | null = null;
  #lastSeq = -1;
  #numLost = 0;
  #numDuplicated = 0;
  #numAttempts = 0;
  #lastMs: number | null = null;
  #isCancelled = false;
  lastError = 'none';

  constructor(request: ChaosRequest, key: string, options: ClientOptions) {
    const { rng, manner, dropChance } = options;
    this.#request = request;
    this.#key = key;
    this.#options = options;
    this.#numWanted = manner === 'endless' ? integerFrom(rng, 30, 150) : integerFrom(rng, 0, 40);
    const drops = dropChance > 0 && rng() < PLAIN_DROP_CHANCE;
    this.#dropAfterMs = drops ? integerFrom(rng, 20, 1500) : null;
  }

  note(error: unknown): void {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    this.lastError = cause instanceof Error ? cause.message : String(cause);
  }

  outcome(failure: string | null): Outcome {
    return {
      requestId: this.#requestId,
      answer: this.#answer,
      failure,
      numEvents: this.#frames.length,
      numLost: this.#numLost,
      numDuplicated: this.#numDuplicated,
      numReconnects: this.#numAttempts - 1,
      pauses: this.#pauses,
    };
  }

  /**
   * @returns whether nothing is left to be done; else it has to be tried again
   * @throws {Refusal} when trying again is no use
   */
  async attempt(signal: AbortSignal): Promise<boolean> {
    this.#numAttempts += 1;
    const { stream } = this.#request.body;
    const response = await this.#send(stream ? signal : this.#impatient(signal));
    if (response.status === 503 || response.status === 429) {
      const retryAfter = response.headers.get('retry-after');
      if (retryAfter === null) throw new Refusal(`${response.status} without Retry-After`);
      this.lastError = `${response.status} ${await response.text()}`;
      return this.#isLate;
    }
    if (!response.ok) throw new Refusal(`${response.status} ${await response.text()}`);
    this.#requestId = response.headers.get('x-request-id');
    if (stream) return await this.#read(response, signal);
    this.#answer = answerOfBody(await response.json());
    return true;
  }

  /** Whether the deadline that was asked for came before the first token. */
  get #isLate(): boolean {
    return this.#options.manner === 'deadline' && this.lastError.includes('"deadline_exceeded"');
  }

  #impatient(signal: AbortSignal): AbortSignal {
    if (this.#dropAfterMs === null) return signal;
    const drop = AbortSignal.timeout(this.#dropAfterMs);
    this.#dropAfterMs = null;
    return AbortSignal.any([signal, drop]);
  }

  #send(signal: AbortSignal): Promise<Response> {
    const { path, body } = this.#request;
    if (this.#lastId !== null && this.#requestId !== null) {
      const headers = { 'last-event-id': this.#lastId };
      return this.#call(`/v1/requests/${this.#requestId}/events`, { headers, signal });
    }
    return this.#call(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': this.#key },
      body: JSON.stringify(body),
      signal,
    });
  }

  #call(path: string, init: RequestInit): Promise<Response> {
    return fetch(`${pickFrom(this.#options.rng, this.#options.edgeUrls)}${path}`, init);
  }

  /** Reads a stream to its end, or until it breaks or the client has enough of the connection. */
  async #read(response: Response, signal: AbortSignal): Promise<boolean> {
    const { rng, manner, dropChance } = this.#options;
    const reader = response.body!.getReader();
    const decoder = new TextDecoder();
    let rest = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return false; // ended without [DONE]: its edge died
      rest += decoder.decode(value, { stream: true });
      const blocks = rest.split('\n\n');
      rest = blocks.pop() ?? '';
      for (const block of blocks) this.#take(block);
      const end = this.#end();
      if (end !== null) return end;
      const hasEnough = this.#frames.length >= this.#numWanted;
      const isLeaving = manner === 'leave' && hasEnough;
      if (hasEnough && (manner === 'cancel' || manner === 'endless')) await this.#cancel(signal);
      if (!isLeaving && rng() >= dropChance) continue;
      await reader.cancel();
      this.#lastMs = null; // a silence of the client's own
      return isLeaving;
    }
  }

  /** @returns whether the stream has ended for good, or not; `null` while it goes on */
  #end(): boolean | null {
    const last = this.#frames.at(-1);
    if (last?.data === '[DONE]') {
      this.#answer = answerOfFrames(this.#frames);
      return true;
    }
    if (!last?.data.startsWith('{"error"')) return null;
    this.lastError = last.data;
    if (this.#isLate) return true;
    if (last.id !== null) throw new Refusal(last.data);
    this.#frames.pop(); // of this connection, not of the request
    return false;
  }

  async #cancel(signal: AbortSignal): Promise<void> {
    if (this.#isCancelled) return;
    const response = await this.#call(`/v1/requests/${this.#requestId}/cancel`, {
      method: 'POST',
      signal,
    }).catch(() => null);
    this.#isCancelled = response?.ok ?? false; // else once more at the next event
  }

  #take(block: string): void {
    const lines = block.split('\n').filter((line) => !line.startsWith(':'));
    const fieldOf = (name: string) =>
      lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2) ?? null;
    const [id, data] = [fieldOf('id'), fieldOf('data')];
    if (data === null) return;
    this.#options.onEvent?.();
    this.#lookAtClock();
    if (id !== null) this.#count(id);
    this.#frames.push({ id, data });
  }

  #lookAtClock(): void {
    const nowMs = performance.now();
    if (this.#lastMs !== null && nowMs - this.#lastMs >= MIN_PAUSE_MS) {
      this.#pauses.push({ startMs: this.#lastMs, endMs: nowMs });
    }
    this.#lastMs = nowMs;
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
