import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { jsonOf, parseFrames } from './edge.ts';
import { describeOpenAiBatches } from './openai-batches.ts';

/** A running service with the embedded model. */
export interface Service extends AsyncDisposable {
  /** Without a slash at the end. */
  readonly url: string;
}

const model = 'stories-target';
const prompt = 'Once upon a time';
const messages = [{ role: 'user' as const, content: 'Write a story about a dog.' }];
/** Long enough that it is still running when somebody looks. */
const endless = { ignore_eos: true, n: 8 };

/** The `openai` client, as its users have it, against a service that runs elsewhere. */
export function describeOpenAiClient(name: string, open: () => Promise<Service>): void {
  describe(`the openai client with ${name}`, () => {
    let service: Service;
    let client: OpenAI;

    beforeAll(async () => {
      service = await open();
      client = new OpenAI({ baseURL: `${service.url}/v1`, apiKey: 'none', maxRetries: 0 });
    });
    afterAll(() => service?.[Symbol.asyncDispose]());

    const statusOf = async (id: string | null | undefined) =>
      (await jsonOf(await fetch(`${service.url}/v1/requests/${id}`))).status;

    it('lists and finds the model', async () => {
      const models = await Array.fromAsync(client.models.list());
      expect(models.map(({ id }) => id)).toContain(model);
      expect(await client.models.retrieve(model)).toMatchObject({ id: model, object: 'model' });
    });

    describe('completions', () => {
      const body = { model, prompt, seed: 7, max_tokens: 24 };

      it('gives the same text for the same seed, and says which seed it drew', async () => {
        const first = await client.completions.create({ ...body, seed: null });
        const seed = Number(Reflect.get(first, 'seed'));
        const second = await client.completions.create({ ...body, seed });

        expect(first.choices[0]?.text).not.toBe('');
        expect(second.choices[0]?.text).toBe(first.choices[0]?.text);
        expect(second.system_fingerprint).toBe(first.system_fingerprint);
        expect(first.usage).toMatchObject({
          completion_tokens: 24,
          total_tokens: 24 + (first.usage?.prompt_tokens ?? 0),
        });
      });

      it('streams the text of the plain answer', async () => {
        const plain = await client.completions.create(body);
        const options = { stream: true, stream_options: { include_usage: true } } as const;
        const chunks = await Array.fromAsync(
          await client.completions.create({ ...body, ...options }),
        );

        const choices = chunks.flatMap((chunk) => chunk.choices);
        expect(choices.map(({ text }) => text).join('')).toBe(plain.choices[0]?.text);
        expect(choices.at(-1)?.finish_reason).toBe(plain.choices[0]?.finish_reason);
        expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: 24 } });
        expect(new Set(chunks.map(({ id }) => id)).size).toBe(1);
      });

      it('answers n choices of several prompts, the first as if it were alone', async () => {
        const alone = await client.completions.create(body);
        const many = await client.completions.create({ ...body, prompt: [prompt, 'Tom'], n: 2 });

        expect(many.choices.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
        expect(many.choices[0]?.text).toBe(alone.choices[0]?.text);
        expect(many.choices[1]?.text).not.toBe(alone.choices[0]?.text);
        expect(many.usage?.completion_tokens).toBe(96);
      });

      it('stops before a stop string', async () => {
        const whole = await client.completions.create(body);
        const text = whole.choices[0]?.text ?? '';
        const stop = text.slice(12, 17); // five characters, wherever token borders are
        const stopped = await client.completions.create({ ...body, stop: ['never said', stop] });

        expect(stopped.choices[0]?.text).toBe(text.slice(0, text.indexOf(stop)));
        expect(stopped.choices[0]?.finish_reason).toBe('stop');
      });

      it('reports log-probabilities of prompt and answer', async () => {
        const options = { logprobs: 3, echo: true, max_tokens: 5 };
        const { choices } = await client.completions.create({ ...body, ...options });

        const { text, logprobs } = choices[0]!;
        const tokens = logprobs?.tokens ?? [];
        expect(text.startsWith(prompt)).toBe(true);
        expect(tokens.slice(1).join('')).toBe(text); // the first is the begin token, without text
        expect(logprobs?.text_offset?.at(-1)).toBe(text.length - (tokens.at(-1)?.length ?? 0));
        expect(logprobs?.token_logprobs).toHaveLength(tokens.length);
        const top = logprobs?.top_logprobs?.at(-1) ?? {};
        expect(Object.keys(top).length).toBeGreaterThanOrEqual(3);
        expect(top[tokens.at(-1) ?? '']).toBe(logprobs?.token_logprobs?.at(-1));
      });

      it('streams the log-probabilities of the plain answer', async () => {
        const options = { ...body, logprobs: 2 };
        const plain = await client.completions.create(options);
        const chunks = await Array.fromAsync(
          await client.completions.create({ ...options, stream: true }),
        );

        const streamed = chunks.map(({ choices }) => choices[0]?.logprobs);
        for (const field of ['tokens', 'token_logprobs', 'top_logprobs', 'text_offset'] as const) {
          const whole = streamed.flatMap<unknown>((logprobs) => logprobs?.[field] ?? []);
          expect(whole).toEqual(plain.choices[0]?.logprobs?.[field]);
        }
      });

      it('is cancelled by a client that aborts its stream', async () => {
        const { data, response } = await client.completions
          .create({ model, prompt, ...endless, max_tokens: 400, stream: true })
          .withResponse();
        for await (const _ of data) break;

        const id = response.headers.get('x-request-id');
        await expect.poll(() => statusOf(id), { timeout: 10_000 }).toBe('cancelled');
      });

      it('counts token ids as they are', async () => {
        const { usage } = await client.completions.create({ ...body, prompt: [0, 5, 6, 7] });
        expect(usage?.prompt_tokens).toBe(4);
      });
    });

    describe('chat', () => {
      const body = { model, messages, seed: 7, max_completion_tokens: 24 };

      it('streams the message of the plain answer', async () => {
        const plain = await client.chat.completions.create(body);
        const message = plain.choices[0]?.message;
        const stream = client.chat.completions.stream(body);
        const final = await stream.finalChatCompletion();

        expect(message).toMatchObject({ role: 'assistant', content: expect.any(String) });
        expect(final.choices[0]?.message).toMatchObject({
          role: 'assistant',
          content: message?.content,
        });
        expect(final.choices[0]?.finish_reason).toBe(plain.choices[0]?.finish_reason);
        expect(plain.usage?.prompt_tokens_details?.cached_tokens).toBeTypeOf('number');
      });

      it('reports log-probabilities of each token', async () => {
        const options = { logprobs: true, top_logprobs: 2 };
        const { choices } = await client.chat.completions.create({ ...body, ...options });

        const content = choices[0]?.logprobs?.content ?? [];
        const text = choices[0]?.message.content ?? '';
        expect(content.length).toBeGreaterThan(0);
        expect(content.map(({ token }) => token).join('')).toContain(text);
        for (const token of content) expect(token.top_logprobs).toHaveLength(2);
      });

      it('streams the log-probabilities of the plain answer', async () => {
        const options = { ...body, logprobs: true, top_logprobs: 2 };
        const plain = await client.chat.completions.create(options);
        const chunks = await Array.fromAsync(
          await client.chat.completions.create({ ...options, stream: true }),
        );

        const streamed = chunks.flatMap(({ choices }) => choices[0]?.logprobs?.content ?? []);
        expect(streamed).toEqual(plain.choices[0]?.logprobs?.content);
      });

      it('answers n choices, the first as if it were alone, and streams them by index', async () => {
        const alone = await client.chat.completions.create(body);
        const { choices } = await client.chat.completions.create({ ...body, n: 2 });
        const stream = client.chat.completions.stream({ ...body, n: 2 });
        const streamed = (await stream.finalChatCompletion()).choices;

        expect(choices.map(({ index }) => index)).toEqual([0, 1]);
        expect(choices[0]?.message.content).toBe(alone.choices[0]?.message.content);
        expect(choices[1]?.message.content).not.toBe(choices[0]?.message.content);
        expect(streamed.map(({ message }) => message.content)).toEqual(
          choices.map(({ message }) => message.content),
        );
      });

      it('stops before a stop string', async () => {
        const whole = await client.chat.completions.create(body);
        const text = whole.choices[0]?.message.content ?? '';
        const stop = text.slice(12, 17);
        const { choices } = await client.chat.completions.create({ ...body, stop });

        expect(choices[0]?.message.content).toBe(text.slice(0, text.indexOf(stop)));
        expect(choices[0]?.finish_reason).toBe('stop');
      });

      it('lets go of a plain call that its client aborts', async () => {
        const signal = AbortSignal.timeout(20);
        const aborted = client.chat.completions.create({ model, messages, ...endless }, { signal });
        await expect(aborted).rejects.toBeInstanceOf(OpenAI.APIUserAbortError);
        expect((await client.chat.completions.create(body)).choices).toHaveLength(1);
      });

      it('can be read again from any frame on', async () => {
        const { data, response } = await client.chat.completions
          .create({ ...body, stream: true })
          .withResponse();
        const chunks = await Array.fromAsync(data);
        const id = response.headers.get('x-request-id');
        expect(chunks[0]?.id).toBe(id);

        const url = `${service.url}/v1/requests/${id}/events`;
        const whole = parseFrames(await (await fetch(url)).text());
        expect(whole.slice(0, -1).map((frame) => frame.data)).toEqual(chunks);
        const headers = { 'last-event-id': whole[2]?.id ?? '' };
        const rest = await (await fetch(url, { headers })).text();
        expect(parseFrames(rest)).toEqual(whole.slice(3));
      });

      it('is cancelled by a client that aborts its stream', async () => {
        const { data, response } = await client.chat.completions
          .create({ model, messages, ...endless, stream: true })
          .withResponse();
        for await (const _ of data) break; // the client's own way to abort

        const id = response.headers.get('x-request-id');
        await expect.poll(() => statusOf(id), { timeout: 10_000 }).toBe('cancelled');
      });
    });

    describeOpenAiBatches(() => client);

    describe('errors', () => {
      const failure = (promise: Promise<unknown>) =>
        promise.then(
          () => null,
          (error: unknown) => error,
        );

      it('are those the client has classes for, with param, code and request id', async () => {
        const body = { model, messages };
        const { completions } = client.chat;
        const tools = [{ type: 'function' as const, function: { name: 'f' } }];

        const wrong = await failure(completions.create({ ...body, temperature: 3 }));
        expect(wrong).toBeInstanceOf(OpenAI.BadRequestError);
        expect(wrong).toMatchObject({
          param: 'temperature',
          code: 'invalid_request',
          requestID: expect.stringMatching(/^req-/),
          message: '400 temperature is 3; the limit is 2',
        });
        expect(await failure(completions.create({ ...body, tools }))).toMatchObject({
          status: 400,
          param: 'tools',
          code: 'unsupported_parameter',
        });
        const unknown = await failure(completions.create({ ...body, model: 'gpt-4' }));
        expect(unknown).toBeInstanceOf(OpenAI.NotFoundError);
        expect(unknown).toMatchObject({ code: 'model_not_found', param: 'model' });
        const long = await failure(completions.create({ ...body, max_tokens: 100_000 }));
        expect(long).toMatchObject({ status: 400, code: 'context_length_exceeded' });
      });
    });
  });
}
