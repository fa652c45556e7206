//go:build !unix

package keyfile

import (
	"io/fs"
	"os"
)

const nonblock = 0

// checkPrivate accepts everything: access lists are not mode bits.
func checkPrivate(fs.FileInfo) error { return nil }

// openPlain never opens: there is no telling a link from a file here without a race.
func openPlain(path string) (*os.File, error) {
	return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
}
