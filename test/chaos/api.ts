import { z } from 'zod';
import { pickFrom, type Rng } from '../support/random.ts';
import { pause } from './client.ts';

export interface ApiOptions {
  readonly edgeUrls: readonly string[];
  readonly rng: Rng;
  /** How long everything may take, once nobody does harm any longer. */
  readonly patienceMs: number;
}

const objectSchema = z.record(z.string(), z.unknown());
const CALL_WITHIN_MS = 30_000;
const RETRY_MS = 100;

/** The API of whichever edge answers. */
export class ChaosApi {
  readonly #options: ApiOptions;

  constructor(options: ApiOptions) {
    this.#options = options;
  }

  /**
   * Calls again and again until it is answered.
   *
   * @throws {Error} when patience ends, or for a 4xx
   */
  async text(path: string, init: RequestInit = {}): Promise<string> {
    const { patienceMs } = this.#options;
    const deadlineMs = performance.now() + patienceMs;
    while (performance.now() < deadlineMs) {
      const answer = await this.#call(path, init);
      if (answer !== null) return answer;
      await pause(RETRY_MS);
    }
    throw new Error(`${path} was not answered within ${patienceMs} ms`);
  }

  async json(path: string, init: RequestInit = {}): Promise<Record<string, unknown>> {
    return objectSchema.parse(JSON.parse(await this.text(path, init)));
  }

  /** Posts what is the same call however often it is repeated. */
  post(path: string, body: unknown): Promise<Record<string, unknown>> {
    const key = { 'idempotency-key': crypto.randomUUID() };
    if (body instanceof FormData) return this.json(path, { method: 'POST', headers: key, body });
    const headers = { ...key, 'content-type': 'application/json' };
    return this.json(path, { method: 'POST', headers, body: JSON.stringify(body) });
  }

  /** @returns `null` for what is worth another try */
  async #call(path: string, init: RequestInit): Promise<string | null> {
    const url = pickFrom(this.#options.rng, this.#options.edgeUrls);
    const signal = AbortSignal.timeout(CALL_WITHIN_MS);
    const response = await fetch(`${url}${path}`, { ...init, signal }).catch(() => null);
    if (response === null || response.status === 503 || response.status === 429) return null;
    const text = await response.text().catch(() => null); // its edge died meanwhile
    if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`);
    return text;
  }
}
