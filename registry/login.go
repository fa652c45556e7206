package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

// Login checks the credential against host and stores it as docker login does: with the helper that docker's
// configuration in dir names for the host, else in the file itself. c's transport is used, not its credentials.
// Nothing is stored that the registry refuses.
func Login(ctx context.Context, c *Client, dir, host string, cred Credential) error {
	path, err := dockerConfigPath(dir)
	if err != nil {
		return err
	}
	config, err := readDockerConfig(ctx, path)
	if err != nil {
		return err
	}
	if err := c.check(ctx, host, cred); err != nil {
		return fmt.Errorf("logging in to %s: %w", host, err)
	}
	helper, server := config.helper(host)
	if helper == "" {
		return storeInFile(path, func(f *credentials.FileStore) error {
			return f.Put(ctx, server, auth.Credential{Username: cred.Username, Password: cred.Password, RefreshToken: cred.RefreshToken, AccessToken: cred.AccessToken})
		})
	}
	entry := struct{ ServerURL, Username, Secret string }{server, cred.Username, cred.Password}
	if cred.RefreshToken != "" {
		entry.Username, entry.Secret = "<token>", cred.RefreshToken
	}
	input, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	_, err = config.runHelper(ctx, helper, "store", string(input))
	return err
}

// CredentialStore says where [Login] keeps the credential for host: the program of docker's credential helper, or
// else docker's file itself.
func CredentialStore(ctx context.Context, dir, host string) (helper, file string, err error) {
	path, err := dockerConfigPath(dir)
	if err != nil {
		return "", "", err
	}
	config, err := readDockerConfig(ctx, path)
	if err != nil {
		return "", "", err
	}
	if helper, _ := config.helper(host); helper != "" {
		return "docker-credential-" + helper, path, nil
	}
	return "", path, nil
}

// check asks the registry's root for itself with cred. A registry that lets everybody in has not judged it, which is warned of.
func (c *Client) check(ctx context.Context, host string, cred Credential) error {
	asked := false
	o := c.options
	o.Credentials = func(context.Context, string) (Credential, error) {
		asked = true
		return cred, nil
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.scheme(host)+"://"+connectHost(host)+"/v2/", nil)
	if err != nil {
		return fmt.Errorf("%w: %q is not a registry's host", ErrReference, host)
	}
	probe := &Client{options: o, auth: newAuthorizer(c.retry, o)}
	resp, err := probe.auth.do(req, host, nil)
	if err != nil {
		return transportError(ctx, host, err)
	}
	if resp.StatusCode != http.StatusOK {
		return (&remote{client: probe, host: host}).refused(resp)
	}
	discard(resp)
	if !asked {
		c.warn("login-unchecked", host, host+" did not ask for a credential, so nobody has checked the one given")
	}
	return nil
}

// Logout forgets what docker's configuration in dir holds for host, in the file and in its helper. Nothing there is no error.
func Logout(ctx context.Context, dir, host string) error {
	path, err := dockerConfigPath(dir)
	if err != nil {
		return err
	}
	config, err := readDockerConfig(ctx, path)
	if err != nil {
		return err
	}
	if helper, server := config.helper(host); helper != "" {
		if _, err := config.runHelper(ctx, helper, "erase", server); err != nil && !errors.Is(err, errNotKept) {
			return fmt.Errorf("logging out of %s: %w", host, err)
		}
	}
	kept := false
	for _, n := range serverNames(host) {
		_, ok := config.Auths[n]
		kept = kept || ok
	}
	if !kept {
		return nil
	}
	return storeInFile(path, func(f *credentials.FileStore) error {
		for _, n := range serverNames(host) {
			if err := f.Delete(ctx, n); err != nil {
				return err
			}
		}
		return nil
	})
}

// storeInFile changes docker's file, which keeps what else is in it. A link to it stays one.
func storeInFile(path string, change func(*credentials.FileStore) error) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	} else if !errors.Is(err, os.ErrNotExist) {
		return fail(codeConfig, "writing docker's configuration: %w: %w", ErrConfig, err)
	}
	f, err := credentials.NewFileStore(path)
	if err != nil {
		return fail(codeConfig, "writing docker's configuration %s: %w", path, ErrConfig)
	}
	if err := change(f); err != nil {
		if errors.Is(err, credentials.ErrBadCredentialFormat) {
			return fail(codeConfig, "writing docker's configuration %s: %w: %w", path, ErrConfig, err)
		}
		return fail(codeDisk, "writing docker's configuration %s: %w: %w", path, ErrDisk, err)
	}
	return nil
}
