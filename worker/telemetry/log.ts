import { pino } from 'pino';

export type LogFields = Readonly<Record<string, string | number | boolean | null>>;

/** Events, not prose: `log.info('job_claimed', { id })`. Prompts and outputs are never logged. */
export interface Log {
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields, error?: Error): void;
}

/** Writes lines of JSON to standard output, each with `bindings`. */
export function createLog(
  level: 'debug' | 'info' | 'warn' | 'error' | 'silent',
  bindings: LogFields = {},
): Log {
  const logger = pino({
    level,
    base: bindings,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    messageKey: 'event',
  });
  return {
    debug: (event, fields = {}) => logger.debug(fields, event),
    info: (event, fields = {}) => logger.info(fields, event),
    warn: (event, fields = {}) => logger.warn(fields, event),
    error: (event, fields = {}, error) => logger.error({ ...fields, err: error }, event),
  };
}

/** The same log, whose events are told to `onEvent` first, also those below its level. */
export function watchedLog(log: Log, onEvent: (event: string) => void): Log {
  return {
    debug(event, fields) {
      onEvent(event);
      log.debug(event, fields);
    },
    info(event, fields) {
      onEvent(event);
      log.info(event, fields);
    },
    warn(event, fields) {
      onEvent(event);
      log.warn(event, fields);
    },
    error(event, fields, error) {
      onEvent(event);
      log.error(event, fields, error);
    },
  };
}
