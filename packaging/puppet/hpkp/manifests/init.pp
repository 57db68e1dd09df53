# @summary Policies of pinned keys, tested by the server itself before they are installed
#
# @param policies
#   Policies by name, each with `pins`, `max_age` and perhaps `include_subdomains`.
# @param new_installation
#   Set this to true once, for a new installation. If a directory that had records is missing, mount or
#   restore it instead: a new one knows nothing of the pins that clients hold.
# @param records
#   The directory with records.
# @param writer
#   The name under which this server records.
# @param server
#   Which server it is.
# @param configuration
#   Where the policies go.
# @param test
#   The server's own config test, which asks hpkp.
# @param reload
#   How the server is reloaded.
# @param try_command
#   Where the helper of the config test is (packaging/scripts/hpkp-try).
# @param path
#   Where commands are looked for.
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
    exec { 'hpkp: make the directory with records':
      command => ['hpkp', 'published', 'init', $records],
      creates => "${records}/hpkp-records",
      path    => $path,
      before  => File[$configuration],
    }
  } else {
    # Fails where they are missing, and with it all that needs them.
    exec { 'hpkp: look for the directory with records':
      command => ['test', '-e', "${records}/hpkp-records"],
      unless  => [['test', '-e', "${records}/hpkp-records"]],
      path    => $path,
      before  => File[$configuration],
    }
  }

  # A policy that would lock clients out is refused here; the old file stays, and nothing is reloaded.
  file { $configuration:
    ensure       => file,
    mode         => '0644',
    content      => epp("hpkp/${server}.conf.epp", {
      'records'  => $records,
      'writer'   => $writer,
      'policies' => $policies,
    }),
    validate_cmd => "${try_command} ${configuration} % ${test}",
    notify       => Exec['hpkp: reload the server'],
  }

  exec { 'hpkp: reload the server':
    command     => $reload,
    path        => $path,
    refreshonly => true,
  }
}
