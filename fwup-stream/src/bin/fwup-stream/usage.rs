//! The help text.

/// What `-h` prints.
pub(crate) const TEXT: &str = "\
fwup-stream makes, signs, checks and applies firmware archives (.fw). Applying one writes it to a disk,
a partition or an image file as it streams in. Options, output and exit codes are those of fwup.

Usage: fwup [OPTION]...

Commands:
  -a, --apply                 write firmware to the destination (-d), running a task (-t)
  -c, --create                make firmware from a configuration (-f)
  -S, --sign                  sign firmware (-i) with a key (-s) and write it anew (-o)
  -V, --verify                check signature, sizes and digests without writing (needs -i)
  -l, --list                  print the names of the tasks
  -m, --metadata              print what the firmware says about itself
  -g, --gen-keys              make a pair of keys: fwup-key.pub and fwup-key.priv, or as -o says
  -D, --detect                print the memory cards that are there, with their sizes in bytes
  -z                          print the memory card that would be written to without -d
      --sparse-check FILE     find out with a test file whether its file system makes holes
      --version               print the version of fwup this one behaves like
  -h, --help                  print this text

Files and keys:
  -i FILE                     the archive; standard input when missing or -
  -d FILE                     the destination: a block device or a file; without it, a memory card
  -f FILE                     the configuration (fwupdate.conf); - for standard input
  -o FILE                     the archive to make, - for standard output; the beginning of key names
  -p, --public-key-file FILE  a key that may have signed the firmware; may be repeated
      --public-key KEY        the same, the key itself in base64
  -s, --private-key-file FILE the key to sign with
      --private-key KEY       the same, the key itself in base64

Applying:
  -t, --task PREFIX           the task: the first that begins so and applies here
  -y                          write to the memory card that was found without asking
  -u, --unmount               unmount what is mounted from the destination first (default)
  -U, --no-unmount            do not
  -E, --eject, --no-eject     accepted for compatibility; Linux needs no ejecting
      --max-size BLOCKS       the destination ends after so many blocks of 512 bytes
      --enable-trim           pass trims on to the device
      --verify-writes, --no-verify-writes
                              read back what was written (default for devices), or do not
      --minimize-writes, --no-minimize-writes
                              do not write what is there already, or do (default)
      --reboot-param-path FILE
                              where reboot_param writes
      --unsafe                allow firmware to run commands and to write files of this system

Output:
  -n                          print progress as numbers
  -q, --quiet                 print no progress
      --progress-low N        the progress at the start (0)
      --progress-high N       the progress at the end (100)
  -F, --framing               framed messages on standard output, framed archive on standard input
      --exit-handshake        at the end print Ctrl+Z and the exit code, then wait for the end of input
  -v, --verbose               say more
      --metadata-key NAME     with -m: print only this value
      --sparse-check-size N   bytes of the hole that --sparse-check tries (4096)
  -1 ... -9                   compression of -c, from fast to small (-9)

A single file without a command is applied with the task \"complete\":

  fwup -d image.img firmware.fw
";
