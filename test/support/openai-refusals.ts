import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Service } from './openai-conformance.ts';

/** What a service that refuses is opened with. */
export const REFUSING = {
  apiKey: 'sk-1',
  maxQueued: 1,
  /** A model that was served once. */
  asleep: 'asleep',
} as const;

/**
 * The `openai` client against a service that knows one key, takes one request for the stories,
 * which nobody begins, and has no worker for `asleep`.
 */
export function describeOpenAiRefusals(name: string, open: () => Promise<Service>): void {
  describe(`the openai client refused by ${name}`, () => {
    let service: Service;
    beforeAll(async () => {
      service = await open();
    });
    afterAll(() => service?.[Symbol.asyncDispose]());

    function complete(model: string, apiKey: string = REFUSING.apiKey) {
      const client = new OpenAI({ baseURL: `${service.url}/v1`, apiKey, maxRetries: 0 });
      return client.completions.create({ model, prompt: 'Once', stream: true });
    }

    it('meets an unknown key as an AuthenticationError', async () => {
      const refused = complete('stories-target', 'sk-2');
      await expect(refused).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
      await expect(refused).rejects.toMatchObject({ status: 401, code: 'invalid_api_key' });
    });

    it('meets a model without workers as an error of the server, and when to come back', async () => {
      const refused = complete(REFUSING.asleep);
      await expect(refused).rejects.toBeInstanceOf(OpenAI.InternalServerError);
      await expect(refused).rejects.toMatchObject({ status: 503, code: 'no_worker' });
      const error: unknown = await refused.catch((reason) => reason);
      expect(error instanceof OpenAI.APIError && error.headers?.get('retry-after')).toBe('2');
    });

    it('meets a full queue as a RateLimitError', async () => {
      const headers = {
        authorization: `Bearer ${REFUSING.apiKey}`,
        'content-type': 'application/json',
      };
      const body = JSON.stringify({ model: 'stories-target', prompt: 'Once', background: true });
      const url = `${service.url}/v1/completions`;
      const queued = await fetch(url, { method: 'POST', headers, body });
      expect(queued.status).toBe(202);

      const refused = complete('stories-target');
      await expect(refused).rejects.toBeInstanceOf(OpenAI.RateLimitError);
      await expect(refused).rejects.toMatchObject({ status: 429, code: 'rate_limit_exceeded' });
    });
  });
}
