# @summary Installs pinning policies for nginx or Apache httpd if the config test of the server accepts them
#
# @param policies
#   Policies by name, each with `pins`, `max_age` and optionally `include_subdomains`. A policy has no effect until a
#   server block or virtual host uses it, which this class does not configure.
# @param new_installation
#   Whether to create the directory with records. Set this to true once, for a new installation. If an existing
#   directory with records is missing, mount or restore it instead: with an empty directory, hpkp does not know which
#   pins clients hold, and accepts certificates that lock them out.
# @param records
#   The directory with the records of pins that clients hold.
# @param writer
#   The writer name of this server: its own records are in files that begin with this name.
# @param server
#   The web server.
# @param configuration
#   The configuration file that this class writes. It contains the policies and names the directory with records.
# @param test
#   The config test of the web server, in which the hpkp module checks the policies.
# @param reload
#   The command that reloads the web server.
# @param try_command
#   Where hpkp-try is installed, the script that tests a candidate file with the config test of the web server. Install
#   packaging/scripts/hpkp-try there yourself.
# @param path
#   The directories in which Puppet looks for commands.
class hpkp (
  Hash[String, Struct[{
    pins                         => Array[String, 1],
    max_age                      => String,
    Optional[include_subdomains] => Boolean,
  }]]                       $policies,
  Boolean                   $new_installation = false,
  String                    $records          = '/var/lib/hpkp',
  String                    $writer           = $facts['networking']['hostname'],
  Enum['nginx', 'apache']   $server           = 'nginx',
  String                    $configuration    = '/etc/nginx/conf.d/00-hpkp-policies.conf',
  String                    $test             = 'nginx -t',
  String                    $reload           = 'nginx -s reload',
  String                    $try_command      = '/usr/local/sbin/hpkp-try',
  Array[String]             $path             = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'],
) {
  if $new_installation {
    exec { 'hpkp: create the directory with records':
      command => ['hpkp', 'published', 'init', $records],
      creates => "${records}/hpkp-records",
      path    => $path,
      before  => File[$configuration],
    }
  } else {
    # If the directory is missing, this resource fails, and Puppet skips the policies and the reload, which require it.
    exec { 'hpkp: check that the directory with records exists':
      command => ['test', '-e', "${records}/hpkp-records"],
      unless  => [['test', '-e', "${records}/hpkp-records"]],
      path    => $path,
      before  => File[$configuration],
    }
  }

  # The config test fails if a policy would lock clients out. Then this resource fails: the old file stays in place, and
  # the server is not reloaded.
  file { $configuration:
    ensure       => file,
    mode         => '0644',
    content      => epp("hpkp/${server}.conf.epp", {
      'records'  => $records,
      'writer'   => $writer,
      'policies' => $policies,
    }),
    validate_cmd => "${try_command} ${configuration} % ${test}",
    notify       => Exec['hpkp: reload the web server'],
  }

  exec { 'hpkp: reload the web server':
    command     => $reload,
    path        => $path,
    refreshonly => true,
  }
}
