// The values that an operator puts in place of what a write sends.
import { element, json } from './dom.js';

export class Edits {
  #fields = []; // each with the inputs that are in the page
  onchange = () => {};

  /** The edits, in the order in which they were begun. A column without a name is none yet. */
  list() {
    return this.#fields.map(({ operation, column, value }) => ({ operation_index: operation, column: column(), value: value.value }))
      .filter(({ column }) => column);
  }

  #add(field) {
    this.#fields.push(field);
    this.onchange();
    field.value.focus();
  }

  #remove(field) {
    this.#fields = this.#fields.filter((other) => other !== field);
    this.onchange();
  }

  #input(attributes) {
    return element('input', { autocomplete: 'off', spellcheck: 'false', oninput: () => this.onchange(), ...attributes });
  }

  /** A button that becomes a field for a value that was sent. */
  editor(operation, { name, wanted }) {
    const place = element('span', { class: 'edit' });
    const button = element('button', { type: 'button', class: 'small', 'aria-label': `Edit ${name}`, onclick: () => {
      const field = { operation, column: () => name, value: this.#input({ class: 'json', value: json(wanted), 'aria-label': `New value of ${name}, as JSON` }) };
      place.replaceChildren(field.value, element('button', { type: 'button', class: 'small', 'aria-label': `Keep what was sent as ${name}`, onclick: () => {
        this.#remove(field);
        place.replaceChildren(button);
        button.focus();
      } }, 'Undo'));
      this.#add(field);
    } }, 'Edit');
    place.append(button);
    return place;
  }

  /** A button that adds fields for a column that was not sent. */
  adder(operation) {
    const place = element('span', { class: 'edits' });
    const button = element('button', { type: 'button', class: 'small', onclick: () => {
      const name = this.#input({ placeholder: 'column, as clients name it', 'aria-label': 'Column, as clients name it' });
      const field = { operation, column: () => name.value.trim(), value: this.#input({ class: 'json', placeholder: 'value, as JSON', 'aria-label': 'Its value, as JSON' }) };
      const line = element('span', { class: 'edit' }, name, field.value, element('button', { type: 'button', class: 'small', onclick: () => {
        this.#remove(field);
        line.remove();
        button.focus();
      } }, 'Undo'));
      button.before(line);
      this.#add(field);
      name.focus();
    } }, 'Add a value');
    place.append(button);
    return place;
  }
}
