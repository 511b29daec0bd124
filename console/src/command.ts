// The command with which a board joins, as the installer takes it: pure.

/** `master` is what the master says of itself, HOST:PORT; it listens there, and not always on the usual port. */
export function joinCommand(master: string): string {
  return `./install.sh --role sub --master ${master} --token-file -`;
}

/** A token that is bound to a name is refused to a board of another name. */
export function nameCommand(name: string): string {
  return `hostnamectl set-hostname ${name}`;
}
