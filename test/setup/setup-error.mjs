/** The machine lacks something that set-up cannot supply. */
export class SetupError extends Error {
  /**
   * @param {string} message
   * @param {string} remedy what the person at the keyboard can do
   */
  constructor(message, remedy) {
    super(message);
    this.name = 'SetupError';
    this.remedy = remedy;
  }
}
