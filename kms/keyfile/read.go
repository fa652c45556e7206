package keyfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/imprint-oci/imprint/kms"
)

// maxFile bounds what is read of a key file; an RSA-4096 key with a chain stays under 20 KiB.
const maxFile = 1 << 20

// read returns the contents of the regular file at the absolute path.
func read(path string) ([]byte, fs.FileInfo, error) {
	dir, name := filepath.Split(path)
	if name == "" {
		return nil, nil, kms.Invalid(kms.CodeFile, "it is a folder")
	}
	f, err := openWithin(dir, name)
	if err != nil {
		return nil, nil, unreadable(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, unreadable(err)
	}
	switch {
	case info.IsDir():
		return nil, nil, kms.Invalid(kms.CodeFile, "it is a folder")
	case !info.Mode().IsRegular():
		return nil, nil, kms.Invalid(kms.CodeFile, "it is no regular file (%s)", kindOf(info.Mode()))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, nil, unreadable(err)
	}
	if len(data) > maxFile {
		return nil, nil, kms.Invalid(kms.CodeFile, "it is larger than %d bytes, which no key is", maxFile)
	}
	return data, info, nil
}

// openWithin opens a file of a folder. A Root follows links that stay within the folder and refuses those that leave it,
// without a moment between the check and the use. That the folder itself is reached by links is the caller's choice.
func openWithin(dir, name string) (*os.File, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrPermission) {
		// A Root lists its folder, which not everybody may who may open files in it: Debian's /etc/ssl/private is 0710.
		return openPlain(filepath.Join(dir, name))
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return nil, leaves(root, name, err)
	}
	return f, nil
}

// leaves returns a plain statement if name is a link that leaves the folder; package os has no sentinel for it.
func leaves(root *os.Root, name string, err error) error {
	info, lerr := root.Lstat(name)
	if lerr != nil || info.Mode()&fs.ModeSymlink == 0 {
		return err
	}
	if _, serr := os.Stat(filepath.Join(root.Name(), name)); errors.Is(serr, fs.ErrNotExist) {
		return errors.New("it is a link that leads nowhere: no such file")
	} else if serr != nil {
		return err
	}
	return errors.New("it is a link that leaves its folder (an absolute link does, too): name the file it leads to")
}

// unreadable strips the operation and path, which the caller states, from an error of package os.
func unreadable(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return kms.Invalid(kms.CodeFile, "%w", err)
}

func kindOf(m fs.FileMode) string {
	switch {
	case m&fs.ModeNamedPipe != 0:
		return "a pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return m.Type().String()
}
