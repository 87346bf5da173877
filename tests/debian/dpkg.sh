# dpkg: its data base, building and installing a package.
dpkg -l bash | tail -1 | awk '{print $1, $2}'; dpkg -S /bin/bash; dpkg --audit && echo audited; dpkg-query -W -f '${Status}\n' coreutils
mkdir -p p/DEBIAN p/usr/share/p; echo data >p/usr/share/p/file; printf 'Package: p\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@n>\nDescription: a test\n' >p/DEBIAN/control
printf '#!/bin/sh\necho configured $1\n' >p/DEBIAN/postinst; chmod 755 p/DEBIAN/postinst; dpkg-deb --root-owner-group -b p p_1_all.deb && dpkg --no-debsig -i p_1_all.deb 2>&1 | grep -v Reading
cat /usr/share/p/file; dpkg -L p | tail -1; dpkg -P p 2>&1 | tail -1 | sed 's/(.*)//'; ls /usr/share/p 2>&1
