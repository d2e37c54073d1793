// Elements, requests, and values as text.

/**
 * Makes an element. Children that are strings become text nodes, so they cannot be markup.
 * @param {string} name
 * @param {Record<string, any>} attributes names that begin with "on" are listeners; false and undefined leave one out
 * @param {...(Node | string | null | undefined | false)} children
 */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else if (value !== false && value !== undefined) made.setAttribute(key, value === true ? '' : value);
  }
  made.append(...children.filter((child) => child || child === ''));
  return made;
}

/** A number whose digits JavaScript cannot hold. */
class Exact {
  constructor(source) {
    this.source = source;
  }
}

/**
 * Sends a request to the console's routes and returns the answer's JSON.
 * @param {string} path
 * @param {object | string} [body] a string is JSON already
 */
export async function request(path, body) {
  const response = await fetch(`api/${path}`, body && {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', 'Postern-Console': '1' },
    body: typeof body === 'string' ? body : JSON.stringify(body)
  });
  const text = await response.text();
  let answer;
  try {
    answer = JSON.parse(text, (_, value, context) =>
      typeof value === 'number' && context?.source && String(value) !== context.source ? new Exact(context.source) : value);
  } catch {
    throw new Error(text || `The service answered ${response.status}.`);
  }
  if (!response.ok) throw Object.assign(new Error(answer.error), { status: response.status });
  return answer;
}

/** A text in which characters that are invisible or turn others around can be seen. */
export function printable(text) {
  return String(text).replace(/[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, (c) =>
    c === '\n' ? c : `\\u${c.codePointAt(0).toString(16).padStart(4, '0')}`);
}

/** A JSON value as text, with all digits of its numbers. */
export function json(value) {
  if (value instanceof Exact) return value.source;
  if (Array.isArray(value)) return `[${value.map(json).join(', ')}]`;
  if (value && typeof value === 'object') {
    return `{${Object.entries(value).map(([name, v]) => `${printable(JSON.stringify(name))}: ${json(v)}`).join(', ')}}`;
  }
  return printable(JSON.stringify(value));
}

export function time(text) {
  const at = new Date(text);
  return element('time', { datetime: text, title: at.toISOString() }, at.toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' }));
}

export function badge(status) {
  return element('span', { class: `badge ${status}` }, status);
}

export function failure(error) {
  return element('p', { class: 'notice bad', role: 'alert' }, printable(error.message));
}

/** Tells people who use a screen reader. */
export function announce(text) {
  document.getElementById('announcements').textContent = text;
}
