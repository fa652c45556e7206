//go:build unix

package keyfile

import (
	"io/fs"
	"os"
	"slices"
	"syscall"

	"github.com/imprint-oci/imprint/kms"
)

// nonblock keeps the opening of a FIFO without a writer from waiting for one.
const nonblock = syscall.O_NONBLOCK

// openPlain opens a file that is no link.
func openPlain(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|nonblock|syscall.O_NOFOLLOW, 0)
}

// checkPrivate refuses a file that holds a plaintext key and that others can read.
func checkPrivate(info fs.FileInfo) error {
	mode := info.Mode().Perm()
	if mode&0o077 == 0 {
		return nil
	}
	if mode&0o037 == 0 && isGroupMount(info) {
		return nil
	}
	who := "its group"
	if mode&0o007 != 0 {
		who = "everybody"
	}
	return kms.Invalid(kms.CodePermissions, "it holds a private key that is not encrypted and %s can get at it (mode %04o): run chmod 600 FILE, "+
		"or encrypt it (openssl pkcs8 -topk8 -in FILE -out NEW); for a Kubernetes secret set defaultMode: 0400", who, mode)
}

// isGroupMount reports whether the file is given to this process by its group, as Kubernetes does with an fsGroup: the
// owner is root or somebody else, so that the process could not narrow the mode itself.
func isGroupMount(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid != 0 && int(st.Uid) == os.Geteuid() {
		return false
	}
	groups, err := os.Getgroups()
	if err != nil {
		groups = nil
	}
	return int(st.Gid) == os.Getegid() || slices.Contains(groups, int(st.Gid))
}
