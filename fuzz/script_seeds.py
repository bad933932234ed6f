# SPDX-License-Identifier: GPL-2.0-or-later
"""What fuzzing of GRUB's scripts begins with: configurations as distributions have."""

from __future__ import annotations

import grub_configs

from fuzz.image_seeds import BETWEEN

_SMALL = b"""\
if [ -s $prefix/grubenv ]; then load_env; fi
set default="${saved_entry}"
function savedefault { if [ -z "${boot_once}" ]; then save_env saved_entry; fi; }
for each in 1 2; do set last=$each; done
while [ "$x" != aaa ]; do x=a$x; done
menuentry 'Qubes, with Xen' --id qubes $menuentry_id_option 'other' {
  multiboot2 /tboot.gz placeholder logging=memory,serial
  module2 /xen.gz placeholder console=none "a b"
  module2 --nounzip /initramfs.img
}
submenu 'More' { menuentry "b\\"c" { search --set=root --label x; source /more.cfg } }
"""


def environments() -> list[bytes]:
    """Environment blocks."""
    return [
        grub_configs.grubenv(saved_entry="0", next_entry="a>b"),
        b"# GRUB Environment Block\na=b\\\nc\\\\\n# comment\n##",
    ]


def configs() -> list[bytes]:
    """Configurations, with an environment block and a further script."""
    env = environments()[0]
    more = b"menuentry more { multiboot /tboot.gz; module /xen.gz }\nset timeout=1\n"
    return [
        grub_configs.debian(),
        grub_configs.qubes(),
        b"source /nowhere.cfg\n" + _SMALL,
        BETWEEN.join((_SMALL, env, more)),
        BETWEEN.join((b"source /a.cfg\nconfigfile /ab.cfg\n", env, more)),
        BETWEEN.join((b". /a.cfg\nset default=${next_entry}\n" + _SMALL, env, more)),
    ]


def secrets() -> list[bytes]:
    """Scripts that hold a password."""
    return [
        b"set superusers=root\npassword root 'geheim' # plain\n",
        b"password_pbkdf2 root grub.pbkdf2.sha512.10000.AB.CD\n",
        b"cryptomount -p secret -u 1234\nset luks_password=x\n",
        environments()[0] + b"password=x\n",
        _SMALL,
    ]
