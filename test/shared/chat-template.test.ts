import { describe, expect, it } from 'vitest';
import { createChatTemplate } from '../../shared/chat-template.ts';
import { PlatformError } from '../../shared/errors.ts';
import type { ChatMessage } from '../../shared/protocol/request-chat.ts';
import { storiesFiles } from '../support/stories.ts';

function render(template: unknown, messages: readonly ChatMessage[]): string | undefined {
  const tokenizerConfigJson = JSON.stringify({
    bos_token: { content: '<s>', lstrip: false },
    eos_token: '</s>',
    chat_template: template,
  });
  return createChatTemplate({ tokenizerJson: '{}', tokenizerConfigJson })?.render(messages);
}

const ROLES = '{% for m in messages %}{{ m.role }}={{ m.content }};{% endfor %}';

describe('createChatTemplate', () => {
  it('renders a conversation as the embedded model was trained on it', () => {
    const messages: ChatMessage[] = [
      { role: 'user', content: 'a dog' },
      { role: 'assistant', content: 'Once' },
      { role: 'user', content: 'more' },
    ];
    expect(createChatTemplate(storiesFiles)?.render(messages)).toBe(
      '<|endoftext|><|user|>a dog<|assistant|>Once<|endoftext|><|user|>more<|assistant|>',
    );
  });

  it('is none for a model without a template', () => {
    expect(render(undefined, [])).toBeUndefined();
    expect(render([{ name: 'tool_use', template: ROLES }], [])).toBeUndefined();
  });

  it('takes the default of several templates, and special tokens of either form', () => {
    const template = [{ name: 'default', template: '{{ bos_token }}{{ eos_token }}' }];
    expect(render(template, [])).toBe('<s></s>');
  });

  it('calls a developer system where the template knows no developer', () => {
    const messages: ChatMessage[] = [{ role: 'developer', content: 'be brief' }];
    expect(render(ROLES, messages)).toBe('system=be brief;');
    expect(render(`{# developer #}${ROLES}`, messages)).toBe('developer=be brief;');
  });

  it('hands over tool calls with their arguments as objects', () => {
    const call = { name: 'add', arguments: '{"a": 1}' };
    const messages: ChatMessage[] = [
      {
        role: 'assistant',
        content: '',
        toolCalls: [{ id: 'call-1', type: 'function', function: call }],
      },
      { role: 'tool', content: '2', tool_call_id: 'call-1' },
    ];
    const calls =
      '{% for t in m.tool_calls %}{{ t.function.name }} {{ t.function.arguments.a }}{% endfor %}';
    const template = `{% for m in messages %}{% if m.tool_calls %}${calls}{% endif %}{{ m.tool_call_id }} {{ m.content }};{% endfor %}`;
    expect(render(template, messages)).toBe('add 1 ;call-1 2;');
  });

  it('says why a template refuses a conversation', () => {
    const template = "{{ raise_exception('roles must alternate') }}";
    expect(() => render(template, [])).toThrow(PlatformError);
    expect(() => render(template, [])).toThrow('roles must alternate');
  });
});
