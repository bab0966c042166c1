import OpenAI, { toFile } from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { jsonOf, parseFrames } from './edge.ts';

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

async function listOf<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const list: Item[] = [];
  for await (const item of items) list.push(item);
  return list;
}

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
      const models = await listOf(client.models.list());
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
        const chunks = await listOf(await client.completions.create({ ...body, ...options }));

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

      it('can be read again from any frame on', async () => {
        const { data, response } = await client.chat.completions
          .create({ ...body, stream: true })
          .withResponse();
        const chunks = await listOf(data);
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

    describe('files and batches', () => {
      const linesOf = (count: number) =>
        Array.from({ length: count }, (_, i) => ({
          custom_id: `line-${i}`,
          method: 'POST',
          url: '/v1/completions',
          body: { model, prompt: i % 5 === 4 ? 7.5 : prompt, seed: i, max_tokens: 2 },
        }));
      const upload = async (lines: readonly object[]) => {
        const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
        const file = await toFile(Buffer.from(text), 'input.jsonl');
        return { text, file: await client.files.create({ file, purpose: 'batch' }) };
      };
      const run = async (inputFileId: string) => {
        const { id } = await client.batches.create({
          input_file_id: inputFileId,
          endpoint: '/v1/completions',
          completion_window: '24h',
          metadata: { from: 'a test' },
        });
        const status = async () => (await client.batches.retrieve(id)).status;
        const over = expect.stringMatching(/^(completed|failed|cancelled|expired)$/);
        await expect.poll(status, { timeout: 60_000 }).toEqual(over);
        return client.batches.retrieve(id);
      };
      const readLines = async (id: string | undefined) => {
        const text = await (await client.files.content(id ?? '')).text();
        return text
          .split('\n')
          .filter(Boolean)
          .map((line) => JSON.parse(line));
      };

      it('keeps a file until it is deleted', async () => {
        const { text, file } = await upload(linesOf(3));
        expect(file).toMatchObject({ object: 'file', bytes: text.length, purpose: 'batch' });
        expect(await client.files.retrieve(file.id)).toMatchObject({ filename: 'input.jsonl' });
        expect(await (await client.files.content(file.id)).text()).toBe(text);
        const listed = await listOf(client.files.list({ purpose: 'batch', limit: 1 }));
        expect(listed.map(({ id }) => id)).toContain(file.id);

        expect(await client.files.delete(file.id)).toMatchObject({ deleted: true });
        await expect(client.files.retrieve(file.id)).rejects.toMatchObject({ status: 404 });
      });

      it('answers every line of a batch as it would have been alone', async () => {
        const lines = linesOf(10);
        const { file } = await upload(lines);
        const batch = await run(file.id);

        expect(batch).toMatchObject({
          status: 'completed',
          request_counts: { total: 10, completed: 8, failed: 2 },
          metadata: { from: 'a test' },
        });
        const answers = await readLines(batch.output_file_id);
        const expected = lines.filter(({ body }) => typeof body.prompt === 'string');
        expect(answers.map((answer) => answer.custom_id)).toEqual(
          expected.map((line) => line.custom_id),
        );
        for (const [i, { body }] of expected.entries()) {
          const { status_code: status, body: answer } = answers[i].response;
          const alone = await client.completions.create({ ...body, prompt });
          expect(status).toBe(200);
          expect(answer.choices).toEqual(alone.choices);
        }
        const failures = await readLines(batch.error_file_id);
        expect(failures.map(({ custom_id }) => custom_id)).toEqual(['line-4', 'line-9']);
        expect(failures[0].response).toMatchObject({
          status_code: 400,
          body: { error: { param: 'prompt' } },
        });
        const listed = await listOf(client.batches.list({ limit: 1 }));
        expect(listed.map(({ id }) => id)).toContain(batch.id);
        const outputs = await listOf(client.files.list({ purpose: 'batch_output' }));
        expect(outputs.map(({ id }) => id)).toContain(batch.output_file_id);
      });

      it('says which lines are wrong', async () => {
        const [line] = linesOf(1);
        const wrong = [
          line!,
          line!,
          { ...line!, custom_id: 'b', url: '/v1/embeddings' },
          { custom_id: 'c' },
        ];
        const { file } = await upload(wrong);
        const batch = await run(file.id);

        expect(batch.status).toBe('failed');
        expect(batch.errors?.data?.map(({ line, code }) => [line, code])).toEqual([
          [2, 'duplicate_custom_id'],
          [3, 'mismatched_url'],
          [4, 'missing_required_parameter'],
        ]);
      });

      it('refuses what it cannot run', async () => {
        const create = (fields: object) =>
          client.batches.create({
            input_file_id: 'file-x',
            endpoint: '/v1/completions',
            completion_window: '24h',
            ...fields,
          });
        const refused = { status: 400 };
        await expect(create({})).rejects.toMatchObject({ ...refused, param: 'input_file_id' });
        await expect(create({ endpoint: '/v1/embeddings' })).rejects.toMatchObject({
          ...refused,
          param: 'endpoint',
        });
      });
    });

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
        expect(long).toMatchObject({ status: 400, code: 'context_too_long' });
      });
    });
  });
}
