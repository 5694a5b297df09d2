"""The mathematics of diffusion: schedule, timesteps, objectives, reverse process, variational bound."""
