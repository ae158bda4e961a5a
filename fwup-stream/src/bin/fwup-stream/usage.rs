//! The help text.

/// What `-h` prints.
pub(crate) const TEXT: &str = "\
fwup-stream applies firmware archives (.fw) to disks, partitions and image files as they stream in.
It takes the options of fwup and prints what fwup prints. It does not make or sign archives.

Usage: fwup [OPTION]...

Commands:
  -a, --apply                 write firmware to the destination (-d), running a task (-t)
  -l, --list                  print the names of the tasks
  -m, --metadata              print what the firmware says about itself
  -V, --verify                check signature, sizes and digests without writing (needs -i)
      --version               print the version of fwup this one behaves like
  -h, --help                  print this text

Options:
  -i FILE                     the archive; standard input when missing or -
  -d FILE                     the destination: a block device or a file
  -t, --task PREFIX           the task: the first that begins so and applies here
  -p, --public-key-file FILE  a key that may have signed the firmware; may be repeated
      --public-key KEY        the same, the key itself in base64
      --metadata-key NAME     with -m: print only this value
  -n                          print progress as numbers
  -q, --quiet                 print no progress
      --progress-low N        the progress at the start (0)
      --progress-high N       the progress at the end (100)
  -F, --framing               framed messages on standard output, framed archive on standard input
      --exit-handshake        at the end print Ctrl+Z and the exit code, then wait for the end of input
  -v, --verbose               say more
  -u, --unmount               unmount what is mounted from the destination first (default)
  -U, --no-unmount            do not
      --max-size BLOCKS       the destination ends after so many blocks of 512 bytes
      --enable-trim           pass trims on to the device
      --verify-writes, --no-verify-writes
                              read back what was written (default for devices), or do not
      --minimize-writes, --no-minimize-writes
                              do not write what is there already, or do (default)
      --reboot-param-path FILE
                              where reboot_param writes
      --unsafe                allow firmware to run commands and to write files of this system
  -y                          accepted for compatibility

A single file without a command is applied with the task \"complete\":

  fwup -d image.img firmware.fw
";
