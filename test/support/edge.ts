import { type AppOptions, createApp } from '../../edge/app.ts';
import { FakeTransport, type Play } from './fake-transport.ts';
import { storiesCard, storiesFiles } from './stories.ts';
import { tellStory } from './storyteller.ts';

/** The app over a fake transport that serves the embedded model's card. */
export function createTestEdge(play: Play | null = tellStory, options: Partial<AppOptions> = {}) {
  const transport = new FakeTransport(play);
  transport.register(storiesCard, storiesFiles);
  const app = createApp(() => transport, {
    log: () => {},
    now: () => 1_700_000_000_000,
    ...options,
  });
  const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
    app.request(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });
  return { app, post, transport };
}

// biome-ignore lint/suspicious/noExplicitAny: whatever JSON a server sent
export function jsonOf(response: Response): Promise<any> {
  return response.json();
}

/** One server-sent event; `data` parsed unless it is `[DONE]`. */
export interface Frame {
  readonly id: string | null;
  // biome-ignore lint/suspicious/noExplicitAny: whatever JSON a server sent
  readonly data: any;
}

/** Splits the text of a stream; comment lines are left out. */
export function parseFrames(text: string): Frame[] {
  return text
    .split('\n\n')
    .map((block) => block.split('\n').filter((line) => !line.startsWith(':')))
    .filter((lines) => lines.some((line) => line !== ''))
    .map((lines) => {
      const fields = new Map(lines.map((line) => [line.slice(0, line.indexOf(':')), line]));
      const data = fields.get('data')?.slice('data: '.length) ?? '';
      return {
        id: fields.get('id')?.slice('id: '.length) ?? null,
        data: data === '[DONE]' ? data : JSON.parse(data),
      };
    });
}
